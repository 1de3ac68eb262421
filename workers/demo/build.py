# pyright: basic, reportMissingImports=false
# (torch and transformers live in the quantization environment only)
"""Train the demo models from seed: tokenizer, `scribe`, `scribe-mini` and the two adapters.

Runs in the quantization environment, started by `tollgate-worker demo-models --rebuild`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from workers.demo import card
from workers.demo.adapters import ADAPTERS, RANK, AdapterRecipe, train_adapter
from workers.demo.chat_format import DOCUMENT, END, VOCABULARY
from workers.demo.corpus import Documented, Source, builtin_names, documented_names, standard_library_sources
from workers.demo.examination import WINDOW, Examination, bits_per_byte, unigram_perplexity
from workers.demo.progress import Report, progress
from workers.demo.recipe import SCRIBE, SCRIBE_MINI, SEED, Recipe
from workers.demo.tokenizer import save_tokenizer, train_tokenizer
from workers.demo.training import batched, be_deterministic, new_model, perplexity, train
from workers.demo.windows import Document, Encoder, documents, windows
from workers.directories import replaced

LIBRARIES = ("torch", "transformers", "tokenizers", "peft")


class Corpus:
    """Everything a training run reads, encoded once."""

    def __init__(self) -> None:
        sources = standard_library_sources()
        training = [source for source in sources if not source.is_held_out]
        self.held_out: list[Source] = [source for source in sources if source.is_held_out]
        self.names: list[Documented] = [
            *(name for source in training for name in documented_names(source)),
            *builtin_names(),
        ]
        self.tokenizer: Tokenizer = train_tokenizer(
            [source.text for source in training] + [name.summary for name in self.names]
        )
        self.encoder = Encoder(self.tokenizer)
        self.pieces = self.encoder.pieces(training)

    def batches(self, recipe: Recipe, random: Random) -> Iterator[list[Document]]:
        for stage in recipe.stages:
            stream = documents(self.pieces, self.names, self.encoder, stage.code_share, random)
            batches = batched(windows(stream, stage.window), stage.window)
            for _ in range(stage.steps):
                yield next(batches)


def build(out: Path, only: str | None = None) -> None:
    """Write `scribe`, `scribe-mini`, `scribe-sql` and `scribe-support` under `out`, each completely or not at all."""
    corpus = Corpus()
    with progress() as reporter:
        for recipe in (SCRIBE, SCRIBE_MINI):
            if only in (None, recipe.name):
                with replaced(out / recipe.name) as directory:
                    build_model(recipe, corpus, directory, reporter(recipe.name))
        for adapter in ADAPTERS:
            if only in (None, adapter.name):
                with replaced(out / f"scribe-{adapter.name}") as directory:
                    build_adapter(adapter, out / SCRIBE.name, corpus, directory, reporter(adapter.name))


def build_model(recipe: Recipe, corpus: Corpus, directory: Path, report: Report) -> None:
    be_deterministic(SEED)
    save_tokenizer(corpus.tokenizer, directory)
    document, end = (corpus.tokenizer.token_to_id(token) for token in (DOCUMENT, END))
    model = new_model(recipe, document, end)
    train(model, corpus.batches(recipe, Random(SEED)), recipe.steps, recipe.learning_rate, report)
    # A completion ends where a document ends, a chat answer where a message ends.
    model.generation_config.eos_token_id = [end, document]
    model.to(torch.bfloat16).save_pretrained(directory)
    parameters = sum(p.numel() for p in model.parameters())
    libraries = {library: version(library) for library in LIBRARIES}
    card.write_model_card(directory, recipe, parameters, examine(directory, corpus), libraries)


def build_adapter(adapter: AdapterRecipe, base: Path, corpus: Corpus, directory: Path, report: Report) -> None:
    be_deterministic(SEED)
    train_adapter(adapter, base, corpus.encoder, Random(SEED), directory, report)
    card.write_adapter_card(directory, adapter.name, adapter.example, RANK)


def examine(directory: Path, corpus: Corpus) -> Examination:
    """Perplexity of the checkpoint as it was saved, on the held-out modules."""
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    held_out: list[list[int]] = []
    size = 0
    for piece in corpus.encoder.pieces(corpus.held_out):
        for start in range(1, len(piece.tokens), WINDOW):
            tokens = piece.tokens[start : start + WINDOW]
            held_out.append([piece.tokens[0], *tokens])
            size += len(corpus.tokenizer.decode(tokens).encode())
    answers = [token for window in held_out for token in window[1:]]
    training = [token for piece in corpus.pieces for token in piece.tokens[1:]]
    measured = perplexity(model, held_out)
    return Examination(
        held_out_tokens=len(answers),
        perplexity=measured,
        unigram_perplexity=unigram_perplexity(training, answers, VOCABULARY),
        bits_per_byte=bits_per_byte(measured, len(answers), size),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="train one model or adapter; its base must already be in --out")
    arguments = parser.parse_args()
    build(arguments.out, arguments.only)


if __name__ == "__main__":
    main()
