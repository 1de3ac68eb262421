"""The workers: which there are, how they do, and what they serve.

backend     one worker as the gateway lives with it
registry    all of them by name and by what they serve, through every change of the configuration
watch       one worker probed over time           health     its states and what moves it between them (pure)
probes      one probe of one worker (the IO)      listing    what an engine's model list says (pure)
gauge       one worker's load polled, its silence   books      what the fleet tells the ledger
discovery   workers behind a DNS name or in a file  drains     whom operators drained, in all processes
adapters    what is loaded where, by each placer    added   adapters of the API, in all processes
expansion   their names, and who is there twice (pure)
aside       disk work that may hang, in its thread
ramp        how a new worker comes to its share     readiness  which models nobody serves now (pure)
"""
