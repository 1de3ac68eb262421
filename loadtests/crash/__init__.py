"""Kill -9 at every boundary of the ledger, one round each: nothing lost, nothing twice.

story     what a gateway says, and what the ledger must hold after any beginning of it
knife     counts the boundaries a process crosses, and kills it at one of them
acts      what the processes do: say it, settle it, both, carry it through a stream
rounds    one process, one death, one recovery
referee   what has to hold afterwards
grounds   the ledgers they die over, and the ways there
servers   Redis and PostgreSQL of the run's own
syscalls  the same on whole processes, killed at their system calls by strace
__main__  the run
"""

import os
from ctypes.util import find_library

if find_library("pq"):  # psycopg in Python, before anybody imports it: a statement on its way is then seen to be sent
    os.environ.setdefault("PSYCOPG_IMPL", "python")
