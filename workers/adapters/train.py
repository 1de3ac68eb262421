"""Train one LoRA adapter. Runs in the quantization environment, started by `tollgate-worker adapter train`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from workers.errors import WorkerToolError


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--eval", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rank", required=True, type=int)
    parser.add_argument("--alpha", type=int)
    parser.add_argument("--targets")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", required=True, type=int)
    parser.add_argument("--learning-rate", required=True, type=float)
    parser.add_argument("--window", required=True, type=int)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--device", required=True)
    parser.add_argument("--format", default="table")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS sums in an order of its own
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, and nothing here needs its kernels
    try:
        from workers.adapters.tuning import tune  # takes seconds, in which an interrupt is one like any other

        manifest = tune(arguments)
    except WorkerToolError as problem:
        print(f"tollgate-worker: {problem}", file=sys.stderr)
        return problem.exit_code
    except OSError as error:
        print(f"tollgate-worker: {error}; nothing was written to {arguments.out}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; nothing was written to {arguments.out}", file=sys.stderr)
        return 130
    if arguments.format == "json":
        print(manifest.model_dump_json(indent=2))
    losses = manifest.losses
    verdict = "learnt" if losses.held_out_after < losses.held_out_before else "nothing learnt: look at the examples"
    print(f"{arguments.out} written ({verdict})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
