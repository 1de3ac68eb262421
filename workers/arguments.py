"""Numbers on a command line: what argparse is given as a `type`, with an error that says what would be right."""

from __future__ import annotations

import argparse


def at_least_one(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:12]) <= 10**9:
        raise argparse.ArgumentTypeError(f"`{text}` must be a whole number from 1 to a billion")
    return int(text)


def positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"`{text}` must be a number above 0")
    return number
