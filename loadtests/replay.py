"""`python -m loadtests.replay`: recorded traffic against one target, as a table, JSON and a plot.

python -m loadtests.replay mooncake.jsonl http://127.0.0.1:4000 --key sk-… --model chat --rate 20 --seconds 60
python -m loadtests.replay azure.csv      http://127.0.0.1:4000 --key sk-… --model chat --speed 10 --requests 2000
python -m loadtests.replay mooncake.jsonl http://127.0.0.1:4000 --model demo --input-scale 0.05 --max-output 64

A trace is a Mooncake JSONL file (timestamp, input_length, output_length, hash_ids) or an Azure LLM CSV file (TIMESTAMP,
ContextTokens, GeneratedTokens). Requests start when the trace says, whatever the answers do; latency counts from then.
Prompts are words of about the recorded length, or with --endpoint completions token ids, exactly as many. Equal hash
ids become equal text, so prefixes are as common as they were. Answers are asked to be exactly as long as recorded.
Exit status 0: measured; 1: a request failed, or nothing could be measured; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from loadtests.jobs import Replay
from loadtests.load import add_target, measure, target
from loadtests.outcome import add_options
from loadtests.prompts import Writer
from loadtests.trace import Call, Scale, read, shared_tokens, speed_for


def main() -> int:
    parser = _parser()
    asked = parser.parse_args()
    try:
        calls = _calls(asked)
        writer = Writer(
            target(asked),
            asked.model,
            endpoint=asked.endpoint,
            stream=asked.stream,
            exact=asked.ignore_eos,
            seed=asked.seed,
            extra=tuple(asked.extra_body.items()),
        )
        job = Replay(writer, tuple(calls), asked.connections, asked.warmup, asked.pid)
        if not 1 <= asked.processes <= job.size:
            raise ValueError(f"--processes: this load can be divided among 1 to {job.size}")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    about = _about(calls)
    print(
        f"{about['requests']:,} requests in {about['seconds']:,.0f} s, {about['input_tokens']:,} tokens in "
        f"({about['shared_input_tokens']:,} in shared prefixes), {about['output_tokens']:,} out",
        file=sys.stderr,
    )
    return measure(job, asked, {"load": "replay", "trace": {"file": asked.trace.name, **about}})


def _calls(asked: argparse.Namespace) -> list[Call]:
    calls = read(asked.trace)
    speed = asked.speed if asked.rate is None else speed_for(asked.rate, calls[: asked.requests])
    scale = Scale(
        speed,
        asked.input_scale,
        asked.output_scale,
        asked.max_input,
        asked.max_output,
        asked.seconds,
        asked.requests,
    )
    return scale.apply(calls)


def _about(calls: list[Call]) -> dict[str, float]:
    return {
        "requests": len(calls),
        "seconds": calls[-1].at,
        "input_tokens": sum(call.input_tokens for call in calls),
        "shared_input_tokens": shared_tokens(calls),
        "output_tokens": sum(call.output_tokens for call in calls),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trace", type=Path)
    add_target(parser)
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=float, default=1.0, help="2 replays twice as fast (default 1)")
    pace.add_argument("--rate", type=float, help="the speed that gives so many requests a second on average")
    parser.add_argument("--seconds", type=float, help="no more than the first so many, after --speed")
    parser.add_argument("--requests", type=int, help="no more than the first so many")
    parser.add_argument("--input-scale", type=float, default=1.0, help="times the recorded prompt lengths (default 1)")
    parser.add_argument("--output-scale", type=float, default=1.0, help="times the recorded answer lengths (default 1)")
    parser.add_argument("--max-input", type=int, metavar="TOKENS", help="longer prompts are cut")
    parser.add_argument("--max-output", type=int, metavar="TOKENS", help="longer answers are cut")
    parser.add_argument(
        "--endpoint", choices=["chat", "completions"], default="chat", help="text, or exact token ids (default chat)"
    )
    parser.add_argument(
        "--stream", action=argparse.BooleanOptionalAction, default=True, help="ask for streams (default)"
    )
    parser.add_argument(
        "--ignore-eos",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="answers of exactly the recorded length, as vLLM and SGLang understand it (default)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the words: another one makes prompts no cache knows")
    parser.add_argument("--connections", type=int, default=512, help="requests under way at most (default 512)")
    parser.add_argument("--warmup", type=float, default=0.0, help="seconds at the start that do not count (default 0)")
    add_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
