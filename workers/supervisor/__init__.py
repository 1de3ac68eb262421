"""Keeps engine processes running, and leaves none behind.

life.py      what one worker is doing and what happens next: every transition in one table, no IO
keeper.py    lives that table for one worker: waits for what happens, tells the table, does what it says
process.py   one run of an engine: files, pipe, guard process, exit, log tail
guard.py     the small process between the two that takes the engine and all it spawned down with the supervisor
ports.py     who listens on a port
inference.py asks a worker for one real token, or one real embedding
report.py    shows it all: live on a terminal, plain lines in a pipe, JSON lines for `tollgate up`

supervisor --pipe--> guard (own session, subreaper) --> engine --> whatever the engine spawns
"""
