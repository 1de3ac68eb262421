# pyright: basic, reportMissingImports=false
# (torch, transformers and peft live in the quantization environment only)
"""A LoRA adapter from examples: the base is frozen, what is held out is asked before and after."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random

import jinja2
import torch
from peft import LoraConfig, get_peft_model
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


def tune(arguments: argparse.Namespace) -> Manifest:
    """Raises WorkerToolError, with nothing written."""
    try:
        return _tune(arguments)
    except torch.OutOfMemoryError:
        raise WorkerToolError("the GPU's memory is full; lower --batch-size or --window") from None


def _tune(arguments: argparse.Namespace) -> Manifest:
    base = read_base(arguments.base)
    targets = chosen_targets(base, arguments.targets.split(",") if arguments.targets else None)
    training, held_out = _data(arguments.data, arguments.eval, arguments.seed)
    device = _device(arguments.device)
    be_deterministic(arguments.seed, arguments.threads, strictly=device.type == "cpu")
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
    _round(parameters, dtype)
    after = mean_loss(adapted, asked.documents, arguments.batch_size)
    print(f"held-out loss after:  {after:.4f}", file=sys.stderr, flush=True)
    with replaced(arguments.out) as directory:
        adapted.to(dtype).save_pretrained(directory, save_embedding_layers=False)
        settle(directory, base.directory.resolve().name)
        (directory / "README.md").unlink(missing_ok=True)  # a form of the library's that nobody has filled in
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


def _round(parameters: Sequence[torch.nn.Parameter], dtype: torch.dtype) -> None:
    """To what the files will have, so that it is them that are measured, not what training knew with more bits."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(parameter.to(dtype))


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
