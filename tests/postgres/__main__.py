"""`python -m tests.postgres --seconds 600 [--seed N]`: faults at random between a sink and PostgreSQL.

Fails where a row is lost or doubled."""

from __future__ import annotations

import argparse
import logging
import random
import secrets
import tempfile
from pathlib import Path

from tests.postgres.chaos import Grounds, run
from tests.postgres.server import PostgresServer
from tests.redis.conftest import RedisServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.postgres", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    logging.disable()  # faults are what this is about
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as directory:
        redis, postgres = RedisServer(Path(directory, "redis")), PostgresServer()
        try:
            redis.start()
            postgres.start()
            with postgres.connect() as connection:
                connection.execute("CREATE DATABASE chaos")
            grounds = Grounds(redis, postgres, random.Random(arguments.seed))
            happened = run(grounds, postgres.url("chaos"), arguments.seconds)
        finally:
            redis.stop()
            postgres.remove()
    for what, count in happened.most_common():
        print(f"{count:>8}  {what}")
    print("lost 0, doubled 0")


if __name__ == "__main__":
    main()
