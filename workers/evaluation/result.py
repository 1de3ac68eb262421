"""What an evaluation found, as `evaluation.json` has it: measurements, verdicts, and what they were made with.

Shares are between 0 and 1, divergences in nats, sizes in bytes, times in the unit of their name. What was not measured
is None or empty, and no gate is passed by what was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.errors import WorkerToolError
from workers.reading import content

FORMAT = 1
FILE = "evaluation.json"
WINDOWS = "windows"  # the name, in `Conditions.texts`, of the token ids that both models were asked about


class CannotRead(WorkerToolError):
    """A file is no evaluation; the message says why."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Interval(_Part):
    """An estimate with its 95 % confidence interval, from a bootstrap over windows of text, for tasks Tango's."""

    value: float
    low: float
    high: float


class Subject(_Part):
    """What was measured. `digest` is that of the artifact (sha256:…), None for an endpoint whose files are not here."""

    name: str  # scribe@int8
    artifact: str | None
    digest: str | None
    recipe: str | None
    quantization: str  # as models.yaml has it: none, fp8, w8a8, w4a16, nf4, mixed
    weight_bytes: int
    bits_per_weight: float  # of all parameters, scales included
    endpoint: str | None = None


class Divergence(_Part):
    """Of next-token distributions from the reference's, over the same text: KL(reference ‖ candidate), a lower bound
    from the top `top_k` log-probabilities of both and one bucket for the rest."""

    tokens: int
    top_k: int
    mean_kld: Interval
    p99_kld: float
    max_kld: float
    same_top: Interval  # share of positions whose most probable token is the same


class Perplexity(_Part):
    """Of held-out text. `ratio` is to the reference's, 1 is no loss, paired by window."""

    tokens: int
    reference: float
    candidate: float
    ratio: Interval


class Task(_Part):
    """Exact answers, paired by example: `lost` are those that only the reference has right, `gained` only the
    candidate; `p_value` is McNemar's exact one-sided test of a loss; `loss_points` is in percentage points."""

    name: str
    examples: int
    reference_correct: int
    candidate_correct: int
    lost: int
    gained: int
    p_value: float
    loss_points: Interval
    unanswered: int = 0  # by the candidate: refused, or not to be graded; they count as wrong

    @property
    def flips(self) -> int:
        return self.lost + self.gained


class LongContext(_Part):
    """The same measures at the end of a context of `context` tokens."""

    context: int
    tokens: int
    perplexity_ratio: float
    mean_kld: float
    same_top: float


class Robustness(_Part):
    """One hard input: whether the candidate coped as well as the reference did."""

    name: str  # empty, very long, emoji, noise, …
    ok: bool
    detail: str


class SchemaAdherence(_Part):
    """Answers that are valid under the JSON schema that was asked for, with the engine's structured outputs and without
    (`mode`)."""

    mode: Literal["guided", "prompted"]
    asked: int
    reference_valid: int
    candidate_valid: int


class Speed(_Part):
    """Through the engine, so many requests at a time, each with the same prompt and answer lengths."""

    batch: int
    requests_per_second: float
    output_tokens_per_second: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    inter_token_p50_ms: float  # of each request's mean


class Memory(_Part):
    """What the engine said and held: its weights, the tokens its cache has room for, the process's largest size."""

    weight_bytes: int
    kv_tokens: int
    peak_bytes: int  # resident memory of a CPU worker, device memory of a GPU worker


class Running(_Part):
    """Speed and memory of one of the two."""

    speed: tuple[Speed, ...] = ()
    memory: Memory | None = None


class Layer(_Part):
    """What quantizing this layer alone to the fewest bits of its recipe does to the model's output, in nats."""

    name: str
    mean_kld: float
    kept: bool  # at more bits than the others, in this version
    bits: int | None = None  # per weight, in this version


class Verdict(_Part):
    """One gate's: `bound` and `measured` as a person reads them. `passed` is None where it could not be judged, which
    counts as not passed unless the gate is optional. Where a gate compares numbers, `value`, `limit` and `ideal` are
    they, in one unit: `(value - ideal) / (limit - ideal)` is the share of what may be lost that has been lost."""

    gate: str  # divergence, same-top, perplexity, task NAME, long-context, robustness, schema, speed, memory, floor
    passed: bool | None
    measured: str
    bound: str
    reason: str
    optional: bool = False
    value: float | None = None  # measured
    limit: float | None = None  # the bound
    ideal: float | None = None  # where nothing is lost: 0 for a divergence, 1 for a ratio, the baseline for a speed


class Conditions(_Part):
    """With what and when it was measured: enough to do it again."""

    at: str  # ISO 8601, UTC
    tollgate: str
    engine: str  # vllm 0.32.0
    device: str  # NVIDIA H200, or the CPU's name
    libraries: Mapping[str, str]
    seed: int
    texts: Mapping[str, str]  # name of a text or task → sha256 of what was asked
    amount: Mapping[str, int] = Field(default_factory=dict[str, int])  # windows, tokens in each, examples, …


class Evaluation(_Part):
    """Everything about one candidate. `floor` is the reference against itself: what the measure shows where there is
    nothing to see."""

    format: Literal[1] = FORMAT
    candidate: Subject
    reference: Subject
    conditions: Conditions
    floor: Divergence | None = None
    divergence: Divergence | None = None
    perplexity: Perplexity | None = None
    tasks: tuple[Task, ...] = ()
    long_context: tuple[LongContext, ...] = ()
    robustness: tuple[Robustness, ...] = ()
    schemas: tuple[SchemaAdherence, ...] = ()
    candidate_running: Running = Field(default_factory=Running)
    reference_running: Running = Field(default_factory=Running)
    layers: tuple[Layer, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    # What the gates allowed, by name, None where one was off; `chosen` are those that a user gave.
    bounds: Mapping[str, float | None] = Field(default_factory=dict[str, float | None])
    chosen: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it may serve: there are gates, and each passed, or could not be judged and is optional."""
        return bool(self.verdicts) and all(one.passed or (one.passed is None and one.optional) for one in self.verdicts)

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


def read(path: Path) -> Evaluation:
    """The evaluation in a file, or in the directory that has one. Raises CannotRead."""
    file = path / FILE if path.is_dir() else path
    try:
        return Evaluation.model_validate_json(content(file))
    except OSError as error:
        raise CannotRead(f"{file} cannot be read: {error.strerror}; make it with: tollgate-worker evaluate") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CannotRead(f"{file} is not an evaluation of this version of Tollgate: {where}: {first['msg']}") from None
