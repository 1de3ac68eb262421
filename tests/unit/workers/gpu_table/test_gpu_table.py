from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.workers.adapters.files import base
from workers.errors import WrongUsage
from workers.evaluation.result import (
    FILE,
    Conditions,
    Divergence,
    Evaluation,
    Interval,
    Memory,
    Perplexity,
    Running,
    Speed,
    Subject,
)
from workers.gpu_table import __main__ as command
from workers.gpu_table import device as devices
from workers.gpu_table.device import GIB, Device, check_room, gpus_of, remarks
from workers.gpu_table.rows import BATCHES, ROWS, Plan, chosen
from workers.gpu_table.table import HEADINGS, Measured, cells, conditions, markdown, published_cells
from workers.registry.digest import digest_of_artifact

H200 = "NVIDIA H200, 143771, 143000, 9.0, 580.65.06"
A100 = Device("NVIDIA A100", 80 * GIB, 79 * GIB, 8.0, "550.1")


def exactly(value: float) -> Interval:
    return Interval(value=value, low=value, high=value)


def evaluation(name: str, candidate: str, reference: str, *, factor: float = 1.0, at: str = "2026-11-21") -> Evaluation:
    """`factor` times as fast and as small as what is evaluated with 1."""

    def subject(name: str, digest: str) -> Subject:
        return Subject(
            name=name, artifact=name, digest=digest, recipe=None, quantization="none",
            weight_bytes=1000, bits_per_weight=16,
        )  # fmt: skip

    speed = tuple(
        Speed(
            batch=batch,
            requests_per_second=batch * factor,
            output_tokens_per_second=100 * batch * factor,
            ttft_p50_ms=1,
            ttft_p95_ms=1,
            inter_token_p50_ms=1,
        )
        for batch in BATCHES
    )
    return Evaluation(
        candidate=subject(name, candidate),
        reference=subject("fp16", reference),
        conditions=Conditions(
            at=f"{at}T10:00:00Z",
            tollgate="0",
            engine="vllm 0.32.0",
            device="NVIDIA H200",
            libraries={},
            seed=1,
            texts={},
        ),
        divergence=Divergence(tokens=9, top_k=9, mean_kld=exactly(0.01), p99_kld=1, max_kld=1, same_top=exactly(0.98)),
        perplexity=Perplexity(tokens=9, reference=10.0, candidate=10.0 + factor - 1, ratio=exactly(1)),
        candidate_running=Running(
            speed=speed, memory=Memory(weight_bytes=round(4e9 / factor), kv_tokens=9, peak_bytes=8 * 10**9)
        ),
    )


def test_rows_are_chosen_in_the_order_of_the_table() -> None:
    assert [row.name for row in chosen("int4, fp16")] == ["fp16", "int4"]
    for wrong in ("int3", "", "fp16,int2"):
        with pytest.raises(WrongUsage, match="there are fp16, fp8, int8, int4"):
            chosen(wrong)


def test_a_row_is_quantized_and_evaluated_with_what_was_asked_for(tmp_path: Path) -> None:
    plan = Plan(Path("m"), Path("o"), quick=True, text=Path("t"), samples=64, calibration=Path("c"), context=512)

    assert plan.quantize(ROWS["fp16"]) is None
    quantize = plan.quantize(ROWS["int4"])
    assert quantize is not None
    assert quantize[:7] == ["quantize", "m", "--recipe", "w4a16-gptq", "--out", "o/checkpoints/int4", "--if-needed"]
    assert quantize[7:] == ["--samples", "64", "--calibration", "c"]
    evaluate = plan.evaluate(ROWS["int4"])
    assert evaluate[:5] == ["evaluate", "--candidate", "o/checkpoints/int4", "--reference", "m"]
    assert evaluate[-5:] == ["--quick", "--text", "t", "--context", "512"]
    assert plan.evaluate(ROWS["fp16"])[:5] == ["evaluate", "--candidate", "m", "--reference", "m"]


def test_a_gpu_is_what_nvidia_smi_says() -> None:
    (found,) = gpus_of(f"\n{H200}\nNo devices were found\n")

    assert (found.name, found.capability, found.driver) == ("NVIDIA H200", 9.0, "580.65.06")
    assert found.total_bytes == 143771 * 2**20


def nvidia_smi(directory: Path, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = directory / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_one_gpu_is_taken_and_none_or_several_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, H200, monkeypatch)
    assert devices.find("auto").name == "NVIDIA H200"
    nvidia_smi(tmp_path, f"{H200}\n{H200}", monkeypatch)
    with pytest.raises(WrongUsage, match="2 GPUs; choose one: CUDA_VISIBLE_DEVICES=0"):
        devices.find("cuda")
    nvidia_smi(tmp_path, "NVIDIA-SMI has failed", monkeypatch)
    with pytest.raises(WrongUsage, match="add --device cpu"):
        devices.find("auto")
    assert not devices.find("cpu").is_gpu


def test_without_a_gpu_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    out = tmp_path / "out"

    assert command.main(["--model", str(base(tmp_path / "base")), "--out", str(out)]) == 2

    assert "there is no NVIDIA GPU here" in capsys.readouterr().err
    assert not out.exists()


def test_a_model_that_does_not_fit_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    model = base(tmp_path / "base")
    small = Device("NVIDIA T4", 16 * GIB, GIB, 7.5, "550")

    check_room(model, chosen("fp16,int4"), A100, tmp_path / "out")
    with pytest.raises(WrongUsage, match=r"needs 2\.4 GB with what the engine takes, and NVIDIA T4 has 1\.1 GB free"):
        check_room(model, chosen("fp16"), small, tmp_path / "out")


def test_what_a_gpu_runs_slower_is_remarked() -> None:
    (remark,) = remarks(chosen("fp16,fp8,int8,int4"), A100)

    assert remark.startswith("fp8: NVIDIA A100 has compute capability 8, the engine's fp8 kernels need 8.9")
    assert remarks(chosen("fp8"), Device("NVIDIA H200", 1, 1, 9.0, "580")) == []


def test_each_row_is_shown_beside_the_model_as_it_is() -> None:
    measured = [
        Measured(ROWS["fp16"], evaluation("fp16", "a", "a")),
        Measured(ROWS["int8"], evaluation("int8", "b", "a", factor=2.0)),
        Measured(ROWS["int4"], None, "it did not start"),
    ]

    fp16, int8, int4 = (dict(zip(HEADINGS[1:], row[1:], strict=True)) for row in cells(measured))

    assert (fp16["tokens/s"], fp16["req/s at 1"], fp16["weights"], fp16["saved"]) == ("100", "1.00", "4.00 GB", "–")
    assert (int8["tokens/s"], int8["req/s at 4"], int8["weights"], int8["saved"]) == ("200", "8.0", "2.00 GB", "50%")
    assert (int8["perplexity"], int8["KLD"], int8["same top"]) == ("11.000", "0.01000", "98.00%")
    assert (int4["tokens/s"], int4["KLD"]) == ("failed", "–")
    assert "- int4 failed: it did not start" in markdown("m", measured, [])


def test_published_figures_keep_their_ratios() -> None:
    fp16, _, int8, int4 = published_cells(list(ROWS.values()))

    assert (fp16[1], int8[1:3], int4[1:3]) == ("48", ["112", "2.33"], ["186", "3.88"])
    assert int4[3:7] == ["162", "452", "721", "845"]


def test_rows_of_different_days_say_so() -> None:
    first = Measured(ROWS["fp16"], evaluation("fp16", "a", "a"))
    later = Measured(ROWS["int8"], evaluation("int8", "b", "a", at="2026-11-22"))

    assert conditions([first]) == "NVIDIA H200, vllm 0.32.0, 2026-11-21"
    assert conditions([first, later]).startswith("fp16: NVIDIA H200, vllm 0.32.0, 2026-11-21; int8: ")


class Commands:
    """Stands for tollgate-worker: makes what its commands would."""

    def __init__(self, model: Path, *failing: str) -> None:
        self.model = model
        self.failing = failing
        self.asked: list[str] = []

    def __call__(self, words: Sequence[str], device: Device) -> int:
        out = Path(words[words.index("--out") + 1])
        self.asked.append(f"{words[0]} {out.name}")
        if self.asked[-1] in self.failing:
            return 1 if words[0] == "quantize" else 3
        if words[0] == "quantize":
            out.mkdir(parents=True, exist_ok=True)
            (out / "config.json").write_text(out.name)
            return 0
        out.mkdir(parents=True, exist_ok=True)
        candidate = digest_of_artifact(Path(words[words.index("--candidate") + 1]))
        (out / FILE).write_text(evaluation(out.name, candidate, digest_of_artifact(self.model)).to_json())
        return 1  # a gate was not passed


def run(model: Path, out: Path, commands: Commands, *more: str) -> int:
    asked = ["--model", str(model), "--out", str(out), "--device", "cpu", "--rows", "fp16,int8,int4", *more]
    return command.run(command.parser().parse_args(asked), commands)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv("TOLLGATE_ENGINE_PYTHON", str(python))


@pytest.mark.usefixtures("engine")
def test_a_row_that_is_done_stays_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = base(tmp_path / "base"), tmp_path / "out"

    first = Commands(model, "evaluate int8")
    assert run(model, out, first) == 1
    assert first.asked == ["evaluate fp16", "quantize int8", "evaluate int8", "quantize int4", "evaluate int4"]
    assert "int8 failed: tollgate-worker evaluate ended with status 3" in capsys.readouterr().out

    again = Commands(model)
    assert run(model, out, again) == 0
    assert again.asked == ["quantize int8", "evaluate int8"]

    nothing = Commands(model)
    assert run(model, out, nothing, "--format", "json") == 0
    assert nothing.asked == []
    printed = capsys.readouterr().out
    found = json.loads(printed[printed.index("\n{") :])
    assert [row["name"] for row in found["rows"]] == ["fp16", "int8", "int4"]
    assert json.loads((out / "table.json").read_text()) == found
    assert "| int4 | 100 |" in (out / "table.md").read_text()


@pytest.mark.usefixtures("engine")
def test_another_argument_or_another_byte_is_measured_anew(tmp_path: Path) -> None:
    model, out = base(tmp_path / "base"), tmp_path / "out"
    run(model, out, Commands(model))

    quick = Commands(model)
    run(model, out, quick, "--quick")
    assert [one for one in quick.asked if one.startswith("evaluate")] == [
        "evaluate fp16",
        "evaluate int8",
        "evaluate int4",
    ]

    (out / "checkpoints/int8/config.json").write_text("changed")
    changed = Commands(model)
    run(model, out, changed, "--quick")
    assert changed.asked == ["quantize int8", "evaluate int8"]
