"""The settler: the process that brings journals into the ledger, so that the gateway never waits for a database.

settler   Settler: from journals to a sink, and after the dead
source    one journal: its attempts under way, and which of its segments nobody needs any more
orders    what a settler is told at its start
status    what it tells: a small file that gateways read for their metrics
host      the gateway's side: starts the process, and again when it ends
__main__  the process

One settler at a time works on a directory of journals (a lock); others stand by.
"""
