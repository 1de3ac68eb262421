"""Kill -9 at every boundary of the ledger, one round each: nothing lost, nothing twice.

story     what a gateway says, and what the ledger must hold after any beginning of it
knife     counts the boundaries a process crosses, and kills it at one of them
acts      what the processes do: say it, settle it, both, carry it through a stream
rounds    one process, one death, one recovery
referee   what has to hold afterwards
servers   Redis and PostgreSQL of the run's own
syscalls  the same on whole processes, killed at their system calls by strace
__main__  the run
"""
