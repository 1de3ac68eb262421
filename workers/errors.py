"""What the worker tools refuse, and the exit code that says whose turn it is: 1 a problem found, 2 wrong usage."""

from __future__ import annotations


class WorkerToolError(Exception):
    """A problem found while working; the message says what to do."""

    exit_code = 1


class WrongUsage(WorkerToolError):
    """The command was asked for something that cannot be; nothing has been done."""

    exit_code = 2
