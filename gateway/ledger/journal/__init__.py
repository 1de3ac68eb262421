"""The write-ahead file: what a gateway process says of its attempts, safe from the moment it is said.

A process writes a directory of its own, `<root>/<name>/`: a file `owner`, locked for as long as it lives, and segments
`00000001.log`, ... of one size, whose space is taken when they are made. It writes them through a shared mapping, so a
record costs no system call and is the kernel's, not the process's, when `append` returns: a killed process has lost
nothing. A timer has the kernel bring it to the disk (fdatasync), against the loss of power.

owner   who owns a journal, and whether he is dead
format  records <-> bytes: length, CRC-32, body. No IO
writer  Journal: append, the next segment, the bound on disk
reader  Tail: what was appended since, of a process that may live or be dead; which segments nobody needs any more
"""
