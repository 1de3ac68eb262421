# pyright: basic, reportMissingImports=false
# (torch, transformers and llmcompressor live in the quantization environment only)
"""Quantize one checkpoint. Runs in the quantization environment, started by `tollgate-worker quantize`."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from workers.directories import replaced
from workers.errors import WorkerToolError
from workers.quantization import lora
from workers.quantization.allocation import Bits, allocate, fused
from workers.quantization.calibration import calibration_samples, digest_of_samples, samples_of_files
from workers.quantization.checks import check_base
from workers.quantization.job import Job
from workers.quantization.kept import Kept, kept_beside
from workers.quantization.manifest import Adapter, Calibration, Layer, Manifest, Requires
from workers.quantization.methods import compress, compress_mixed, load_nf4
from workers.quantization.progress import Report, progress
from workers.quantization.scan import check_finite
from workers.quantization.sensitivity import linears_of, measure
from workers.quantization.texts import BadCalibration
from workers.quantization.weights import bytes_of, parameters_of, tensors_of

LIBRARIES = ("llmcompressor", "compressed-tensors", "torch", "transformers", "tokenizers")
OF_METHOD = {"nf4": ("bitsandbytes", "torch", "transformers"), "merge": ("torch", "transformers")}
TOKENIZER_FILES = ("tokenizer*", "chat_template*", "special_tokens_map.json", "generation_config.json")
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def quantize(job: Job, report: Report) -> None:
    """Everything that can be refused is refused before the model is loaded; the artifact is there whole, or not."""
    torch.manual_seed(job.seed)
    torch.set_num_threads(job.threads)
    samples = _calibration(job)
    tensors = check_base(job.directory)
    adapter = lora.read_lora(job.adapter.directory, tensors) if job.adapter else None
    check_finite([*tensors, *(adapter.tensors if adapter else ())], report)
    made_from = job.asked.model_dump() | {"tokens": digest_of_samples(samples), "libraries": _libraries(job)}
    with kept_beside(job.out, made_from) as kept, replaced(job.out) as directory:
        model, layers = _compressed(job, samples, directory, kept, report)
        model.save_pretrained(directory, save_compressed=True)
        (directory / "recipe.yaml").unlink(missing_ok=True)  # the manifest says it, and more
        # The tokenizer is the base's own, byte for byte: saving it anew would rewrite it in the library's dialect.
        for pattern in TOKENIZER_FILES:
            for path in job.directory.glob(pattern):
                shutil.copy2(path, directory)
        if adapter and job.adapter and not job.adapter.merge:
            shutil.copytree(adapter.directory, directory / lora.KEPT_IN)
        _manifest(job, samples, layers, directory, sum(parameters_of(tensors))).write(directory)


def _compressed(
    job: Job, samples: Sequence[Sequence[int]], directory: Path, kept: Kept, report: Report
) -> tuple[PreTrainedModel, tuple[Layer, ...]]:
    match job.recipe.method:
        case "nf4":
            return _nf4(job, directory), ()
        case "merge":
            return _load(job), ()
        case "mixed":
            return _mixed(job, samples, kept, report)
        case _:
            model = _load(job)
            compress(model, job.recipe, samples, report)
            return model, ()


def _mixed(
    job: Job, samples: Sequence[Sequence[int]], kept: Kept, report: Report
) -> tuple[PreTrainedModel, tuple[Layer, ...]]:
    model = _load(job)
    measured = measure(model, samples, kept, report)
    bits = allocate(measured, job.bits)
    modules = fused(linears_of(model))
    of_module: dict[str, Bits] = {module: bits[layer.name] for layer in measured for module in modules[layer.name]}
    compress_mixed(model, of_module, samples, report)
    layers = (
        Layer(
            name=layer.name,
            weights=modules[layer.name],
            mean_kld=layer.kld[4],
            mean_kld_8bit=layer.kld[8],
            bits=bits[layer.name],
        )
        for layer in measured
    )
    return model, tuple(layers)


def _load(job: Job) -> PreTrainedModel:
    """The base, with the adapter in its weights if that was asked for."""
    model = AutoModelForCausalLM.from_pretrained(job.directory, dtype="auto")
    if job.adapter and job.adapter.merge:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job.adapter.directory).merge_and_unload(safe_merge=True)
    return model


def _nf4(job: Job, directory: Path) -> PreTrainedModel:
    if not (job.adapter and job.adapter.merge):
        return load_nf4(job.directory)
    merged = directory / ".merged"  # it is read from a disk, and this one vanishes with what is made
    try:
        _load(job).save_pretrained(merged)
        return load_nf4(merged)
    finally:
        shutil.rmtree(merged, ignore_errors=True)


def _manifest(
    job: Job, samples: Sequence[Sequence[int]], layers: tuple[Layer, ...], directory: Path, parameters: int
) -> Manifest:
    recipe, hardware = job.recipe, job.recipe.hardware
    size = bytes_of(tensors_of(directory))
    return Manifest(
        recipe=recipe.name,
        quantization=recipe.quantization,
        scheme=recipe.scheme,
        parameters=job.parameters,
        base=job.base,
        adapter=job.adapter
        and Adapter(
            name=job.adapter.directory.resolve().name,
            digest=job.adapter.digest,
            rank=job.adapter.rank,
            merged=job.adapter.merge,
        ),
        calibration=Calibration(
            files=job.calibration_digest, windows=job.samples, length=job.length, sha256=digest_of_samples(samples)
        )
        if samples
        else None,
        seed=job.seed,
        threads=job.threads,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        libraries=_libraries(job),
        bits_per_weight=round(size * 8 / parameters, 4),
        requires=Requires(
            loader=recipe.loader,
            compute_capability=hardware.least,
            native_capability=hardware.native,
            cpu=hardware.cpu,
            weight_bytes=size,
        ),
        layers=layers,
    )


def _libraries(job: Job) -> Mapping[str, str]:
    names = OF_METHOD.get(job.recipe.method, LIBRARIES)
    merged = ("peft",) if job.adapter and job.adapter.merge else ()
    return {name: version(name) for name in (*names, *merged)}


def _calibration(job: Job) -> list[list[int]]:
    if not job.recipe.needs_calibration:
        return []
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(job.directory)

    def tokenize(text: str) -> list[int]:
        return tokenizer(text)["input_ids"]

    def render_chat(messages: list[dict[str, str]]) -> list[int]:
        if tokenizer.chat_template is None:
            return tokenize("\n".join(message["content"] for message in messages))
        try:
            return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        except TemplateError as error:
            raise BadCalibration(f"the model's chat template refuses the messages {messages!r:.200}: {error}") from None

    if job.calibration:
        return samples_of_files(job.calibration, job.samples, job.length, job.seed, tokenize, render_chat)
    return calibration_samples(job.samples, job.seed, tokenize, render_chat, job.length)


def main(argv: Sequence[str]) -> int:
    """Exit 0 done, 1 found a problem, 2 wrong usage."""
    job = Job.model_validate_json(argv[0])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with progress() as report:
            quantize(job, report)
    except WorkerToolError as problem:
        print(f"tollgate-worker: {problem}", file=sys.stderr)
        return problem.exit_code
    except (OSError, SafetensorError) as error:
        if not _is_full(error):
            raise
        print(f"tollgate-worker: no room left for {job.out} ({error}); nothing was changed", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(f"{job.out} written ({job.recipe_name})", file=sys.stderr)
    return 0


def _is_full(error: OSError | SafetensorError) -> bool:
    """safetensors gives the system's error as a text only."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return any(os.strerror(number) in str(error) for number in FULL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
