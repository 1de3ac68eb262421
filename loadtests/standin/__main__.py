"""`python -m loadtests.standin`: the stand-in worker as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import signal

from loadtests.standin.behaviour import INSTANT
from loadtests.standin.engines import SPEECHES
from loadtests.standin.server import Standin, tune_for_speed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.standin", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--model", default="standin", help="names served, separated by commas; the first is echoed")
    parser.add_argument("--engine", choices=sorted(SPEECHES), default="vllm", help="whose dialect it speaks")
    parser.add_argument("--adapter", nargs="*", default=[], metavar="NAME", help="LoRA adapters that are loaded")
    parser.add_argument("--behaviour", default="{}", help='JSON, for example \'{"tokens": 100, "pace": 0.02}\'')
    parser.add_argument("--context", type=int, default=32768, help="tokens, one for each byte of text (default 32768)")
    parser.add_argument(
        "--max-running", type=int, metavar="N", help="generates for N at once, the rest wait; default: all"
    )
    parser.add_argument("--max-queued", type=int, metavar="N", help="refuses (503) when N wait already; default: never")
    parser.add_argument("--keep-alive", type=float, default=5.0, help="seconds an idle connection lives; 0 for ever")
    arguments = parser.parse_args()
    try:
        behaviour = INSTANT.changed(json.loads(arguments.behaviour))
    except ValueError as error:
        parser.error(f"--behaviour: {error}")
    worker = Standin(
        arguments.model.split(","),
        engine=arguments.engine,
        adapters=arguments.adapter,
        behaviour=behaviour,
        context=arguments.context,
        max_running=arguments.max_running,
        max_queued=arguments.max_queued,
        keep_alive=arguments.keep_alive,
        host=arguments.host,
        port=arguments.port,
        record=0,
    )
    factory = None
    with contextlib.suppress(ImportError):  # uvloop is faster and has no Windows build
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(worker))


async def _serve(worker: Standin) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    tune_for_speed()
    async with worker:
        print(f"ready {worker.port}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    main()
