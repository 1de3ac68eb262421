"""How much a candidate may lose, by the bits of its weights, and how somebody chooses otherwise. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from workers.errors import WrongUsage

Written = Mapping[str, object]  # what a user wrote, by the name of a bound


@dataclass(frozen=True, slots=True)
class Bounds:
    """Shares and ratios are of 1. None where the gate is not asked."""

    kld: float | None = 0.01  # nats, mean per token, at most
    same_top: float | None = 0.96  # share of positions, at least
    perplexity: float | None = 1.025  # ratio to the reference's, at most
    task: float | None = 1.0  # percentage points of a task's accuracy that may be lost
    robustness: float | None = 0.0  # hard inputs that may go wrong
    schema: float | None = 5.0  # percentage points of valid answers that may be lost without structured outputs
    memory: float | None = 1.0  # weights, as a ratio to the reference's, at most
    speed: float | None = None  # output tokens per second, as a ratio to the reference's, at least
    floor: float | None = 0.5  # share of the other bounds that the reference may differ from itself by


# Divergence: what llama.cpp's 8-bit and 4-bit formats reach on Llama-3-8B, with room. Perplexity: LLaMA-7B on WikiText
# loses 2.3 % at INT8 and 10.7 % at INT4.
EIGHT_BITS = Bounds()
FOUR_BITS = replace(EIGHT_BITS, kld=0.05, same_top=0.91, perplexity=1.11)
# An adapter changes what the model says on purpose, and adds to its weights: only what it can do is judged.
ADAPTER = replace(EIGHT_BITS, kld=None, same_top=None, perplexity=None, memory=None)

NAMES = tuple(field.name.replace("_", "-") for field in fields(Bounds))
SHARES = frozenset({"same_top", "floor"})  # `96%` and `0.96` are the same
RATIOS = frozenset({"perplexity", "memory", "speed"})  # `105%` and `1.05` are the same


def for_bits(bits: float, *, adapter: bool = False) -> Bounds:
    """The bounds of a candidate whose smallest weights have so many bits. Unquantized ones are held to those of 8."""
    if adapter:
        return ADAPTER
    return EIGHT_BITS if bits >= 8 else FOUR_BITS


def changed(bounds: Bounds, written: Written) -> Bounds:
    """With what a user wrote instead: a number, a percentage, or `off`. Raises WrongUsage."""
    found: dict[str, float | None] = {}
    for name, value in written.items():
        if name not in NAMES:
            raise WrongUsage(f"no gate is called {name}; there are: {', '.join(NAMES)}")
        found[name.replace("-", "_")] = _number(name, value)
    return replace(bounds, **found)


def pairs(options: list[str], what: str) -> dict[str, str]:
    """`name=value` of a repeated option. Raises WrongUsage."""
    found: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not value:
            raise WrongUsage(f"{what} {option}: write it as {what} name=value, for example {what} {EXAMPLES[what]}")
        found[name.strip()] = value.strip()
    return found


EXAMPLES = {"--gate": "perplexity=1.03", "--tolerance": "speed=10%"}


def _number(name: str, value: object) -> float | None:
    text = str(value).strip()
    if text.lower() in ("off", "none", "false"):  # YAML reads a bare off as false
        return None
    field = name.replace("-", "_")
    percent = text.endswith("%")
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = float("nan")
    if percent and field in SHARES | RATIOS:
        number /= 100
    if not 0 <= number < float("inf") or (field in SHARES and number > 1):
        raise WrongUsage(f"gate {name}: {text} is no bound; write a number such as {_example(field)}, or off")
    return number


def _example(field: str) -> str:
    value = getattr(FOUR_BITS, field)
    return "1.2" if value is None else f"{value:g}"
