"""`python -m tests.fuzz [requests] [answers] [--seconds 60] [--seed N]`: 1 when something was found, which is kept."""

from __future__ import annotations

import argparse
import secrets
import sys

from tests.fuzz.search import TARGETS, keep, search


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="left out: both")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=None, help="left out: another each time")
    asked = parser.parse_args()
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    worst = 0
    for target in asked.targets or TARGETS:
        tried, found = search(target, seed, seconds=asked.seconds)
        print(f"{target}: {tried} cases from seed {seed}, {len(found)} found")
        for case, why in found:
            worst = 1
            print(f"  {keep(target, case)}: {why[:400]}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
