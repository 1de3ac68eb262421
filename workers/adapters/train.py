# pyright: basic, reportMissingImports=false
# (torch, transformers and peft live in the quantization environment only)
"""Train one LoRA adapter. Runs in the quantization environment, started by `tollgate-worker adapter train`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS sums in an order of its own

import jinja2
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from workers.adapters import dataset
from workers.adapters.base import chosen_targets, read_base
from workers.adapters.batches import batches, steps_of
from workers.adapters.dataset import Dataset
from workers.adapters.encoding import CannotRender, Encoded, encode
from workers.adapters.loop import be_deterministic, mean_loss, train
from workers.adapters.manifest import Data, Losses, Manifest
from workers.adapters.peft_config import settle
from workers.demo.progress import progress
from workers.directories import replaced
from workers.errors import WorkerToolError, WrongUsage
from workers.registry.digest import digest_of_artifact

LIBRARIES = ("peft", "torch", "transformers", "tokenizers")
MOST_WARM_UP = 40
SAVED = {torch.float16: torch.float16, torch.bfloat16: torch.bfloat16}  # of a base of float32: bfloat16


class BaseTokenizer:
    """A tokenizer of the transformers library, as `encode` needs it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, base: Path) -> None:
        if tokenizer.eos_token_id is None:
            raise WrongUsage(f"the tokenizer of {base} has no token that ends a text; set its `eos_token`")
        self._tokenizer = tokenizer
        self.end = tokenizer.eos_token_id
        self.has_chat_template = tokenizer.chat_template is not None

    def encode(self, text: str, *, begins: bool) -> list[int]:
        tokens = self._tokenizer(text, add_special_tokens=begins, verbose=False)["input_ids"]
        return tokens[:-1] if begins and tokens and tokens[-1] == self.end else tokens

    def render(self, messages: Sequence[Mapping[str, str]], *, answer_follows: bool) -> str:
        try:
            return self._tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=answer_follows
            )
        except jinja2.TemplateError as error:
            raise CannotRender(str(error)) from None


def run(arguments: argparse.Namespace) -> Manifest:
    base = read_base(arguments.base)
    targets = chosen_targets(base, arguments.targets.split(",") if arguments.targets else None)
    training, held_out = _data(arguments.data, arguments.eval, arguments.seed)
    device = _device(arguments.device)
    be_deterministic(arguments.seed, arguments.threads)
    # weights of 16 bits would lose the small steps of a small model; a large one is frozen, and is not to be copied
    model = AutoModelForCausalLM.from_pretrained(base.directory, dtype="auto" if device.type == "cuda" else "float32")
    dtype = SAVED.get(
        getattr(torch, str(base.config.get("dtype") or base.config.get("torch_dtype")), None), torch.bfloat16
    )
    tokenizer = BaseTokenizer(AutoTokenizer.from_pretrained(base.directory), base.directory)
    window = min(arguments.window, base.context or arguments.window)
    learnt = encode(training.examples, tokenizer, window, training.name)
    asked = encode(held_out.examples, tokenizer, window, f"{held_out.name} (held out)")
    _say(training, learnt, "training", window)
    _say(held_out, asked, "held out", window)

    steps = arguments.steps or steps_of(arguments.epochs, len(learnt.documents), arguments.batch_size)
    alpha = arguments.alpha or 2 * arguments.rank
    config = LoraConfig(r=arguments.rank, lora_alpha=alpha, target_modules=list(targets), task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config).to(device)
    before = mean_loss(adapted, asked.documents, arguments.batch_size)  # an adapter begins as nothing
    print(f"held-out loss before: {before:.4f}", file=sys.stderr, flush=True)
    parameters = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.learning_rate, weight_decay=0.0)
    with progress() as reporter:
        train(
            adapted,
            batches(learnt.documents, arguments.batch_size, Random(arguments.seed)),
            [optimizer],
            lambda step: _rate(step, steps),
            steps,
            reporter(arguments.out.name),
        )
    with replaced(arguments.out) as directory:
        adapted.to(dtype).save_pretrained(directory, save_embedding_layers=False)
        settle(directory, base.directory.resolve().name)
        (directory / "README.md").unlink(missing_ok=True)  # a form of the library's that nobody has filled in
        after = _loss_as_saved(base.directory, directory, device, asked, arguments.batch_size)
        print(f"held-out loss after:  {after:.4f}", file=sys.stderr, flush=True)
        manifest = Manifest(
            base=base.directory.resolve().name,
            base_digest=digest_of_artifact(base.directory),
            rank=arguments.rank,
            alpha=alpha,
            targets=targets,
            training=_described(training, learnt),
            held_out=_described(held_out, asked),
            steps=steps,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            window=window,
            seed=arguments.seed,
            threads=arguments.threads,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            dtype=str(dtype).removeprefix("torch."),
            parameters=sum(parameter.numel() for parameter in parameters),
            losses=Losses(held_out_before=round(before, 6), held_out_after=round(after, 6)),
            libraries={library: version(library) for library in LIBRARIES},
        )
        manifest.write(directory)
    return manifest


def _data(data: Path, held: Path | None, seed: int) -> tuple[Dataset, Dataset]:
    """What is learnt and what is asked afterwards, which have no example in common."""
    training = dataset.read(data)
    if held is None:
        kept, aside = dataset.held_out(training.examples, seed)
        return Dataset(training.name, training.sha256, kept), Dataset(training.name, training.sha256, aside)
    asked = dataset.read(held)
    fresh = dataset.unseen(asked.examples, training.examples)
    if not fresh:
        raise WrongUsage(f"every example of {held} is also in {data}: nothing is held out; give others")
    if left_out := len(asked.examples) - len(fresh):
        print(f"{held}: {left_out} examples left out, they repeat or are in {data}", file=sys.stderr)
    return training, Dataset(asked.name, asked.sha256, fresh)


def _device(asked: str) -> torch.device:
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise WrongUsage("--device cuda: torch sees no GPU here; leave it out to train on the CPU")
    return torch.device("cuda" if there and asked != "cpu" else "cpu")


def _loss_as_saved(base: Path, directory: Path, device: torch.device, asked: Encoded, batch_size: int) -> float:
    """Of the files, not of what training had in memory with more bits."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto" if device.type == "cuda" else "float32")
    return mean_loss(PeftModel.from_pretrained(model, directory).to(device).eval(), asked.documents, batch_size)


def _described(data: Dataset, encoded: Encoded) -> Data:
    return Data(
        file=data.name,
        sha256=data.sha256,
        examples=len(encoded.documents),
        learnt_tokens=encoded.learnt,
        cut=encoded.cut,
        skipped=encoded.skipped,
    )


def _say(data: Dataset, encoded: Encoded, what: str, window: int) -> None:
    lost = f", {encoded.cut} cut at {window} tokens, {encoded.skipped} skipped" if encoded.cut else ""
    print(
        f"{what}: {len(encoded.documents)} examples of {data.name}, {encoded.learnt} tokens to learn{lost}",
        file=sys.stderr,
        flush=True,
    )


def _rate(step: int, steps: int) -> float:
    """Linear, up over the first tenth and down to nothing."""
    warm_up = max(1, min(MOST_WARM_UP, steps // 10))
    return min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up), 1.0)


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
    try:
        manifest = run(arguments)
    except WorkerToolError as problem:
        print(f"tollgate-worker: {problem}", file=sys.stderr)
        return problem.exit_code
    except torch.OutOfMemoryError:
        print("tollgate-worker: the GPU's memory is full; lower --batch-size or --window", file=sys.stderr)
        return 1
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
