"""The units people write: durations like `800ms`, shares like `10%`, dollars, secrets like `${env:NAME}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_SECONDS = 365 * 24 * 3600.0

_SPAN = re.compile(r"(\d{1,9})(s|m|h|d)", re.ASCII)
_SPAN_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)

_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_LITELLM_ENV = re.compile(r"os\.environ/(\w+)")


class UnitError(ValueError):
    """A text that is not in its unit: what is wrong with it, and what to write instead."""

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(f"{wrong}: {remedy}")
        self.wrong = wrong
        self.remedy = remedy


def parse_duration(written: object) -> float:
    """Seconds. `800ms`, `30s`, `10m` and `1h` are durations; a bare number is not, for nobody can tell its unit."""
    text = str(written)
    match = _DURATION.fullmatch(text)
    if match is None or not isinstance(written, str):
        unit_missing = _NUMBER.fullmatch(text) is not None
        example = f"`{text}s` or `{text}ms`" if unit_missing else "for example `800ms`, `30s`, `10m` or `1h`"
        wrong = f"`{text}` has no unit" if unit_missing else f"`{text}` is not a duration"
        raise UnitError(wrong, f"write {example}")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds == 0:
        raise UnitError(f"`{text}` is no time at all", "write a duration above zero, for example `30s`")
    if seconds > LONGEST_SECONDS:
        raise UnitError(f"`{text}` is longer than a year", "write at most `8760h`")
    return seconds


def parse_span(text: str) -> float:
    """Seconds of what may last for days, or no time at all: `30d`, `24h`, `0s`."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise UnitError(f"`{text[:40]}` is not a span of time", "write for example `30d`, `24h`, `90m` or `0s`")
    seconds = int(match[1]) * _SPAN_SECONDS[match[2]]
    if seconds > 100 * LONGEST_SECONDS:
        raise UnitError(f"`{text}` is longer than a century", "write at most `36500d`")
    return float(seconds)


def parse_percent(written: object) -> float:
    """A share from 0 to 1. `10%` is a share; `10` and `0.1` are not, for either may be meant."""
    text = str(written)
    match = _PERCENT.fullmatch(text)
    if match is None or not isinstance(written, str):
        unit_missing = _NUMBER.fullmatch(text) is not None
        wrong = f"`{text}` has no percent sign" if unit_missing else f"`{text}` is not a percentage"
        raise UnitError(wrong, f"write `{text}%`" if unit_missing else "write for example `10%`")
    share = float(match[1]) / 100
    if share > 1:
        raise UnitError(f"`{text}` is more than everything", "write at most `100%`")
    return share


def parse_moment(written: object) -> float:
    """Unix seconds. `2027-01-31` is the first moment of that day in UTC; a time without an offset is UTC too."""
    text = str(written)
    try:
        moment = datetime.fromisoformat(text) if isinstance(written, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise UnitError(f"`{text}` is neither a day nor a time", 'write for example `"2027-01-31"`, quoted')
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def resolve_env(text: str, environ: Mapping[str, str]) -> str:
    """Puts the values of environment variables where `${env:NAME}` stands."""
    if foreign := _LITELLM_ENV.fullmatch(text):
        raise UnitError(f"`{text}` is not read from the environment here", f"write `${{env:{foreign[1]}}}`")
    if "${" in _ENV.sub("", text):
        raise UnitError(f"`{text}` holds a `${{` that is not a secret's", "write secrets as `${env:NAME}`")

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if not environ.get(name):
            state = "empty" if name in environ else "not set"
            raise UnitError(f"the environment variable {name} is {state}", f"set it, as in `export {name}=…`")
        return environ[name]

    return _ENV.sub(value, text)


def nanousd(usd: float) -> int:
    """Integer nano-USD of an amount as it was written; `Decimal` of the digits, so that 0.1 is exactly 0.1."""
    return int((Decimal(repr(usd)) * 1_000_000_000).to_integral_value(ROUND_HALF_EVEN))


def show_duration(seconds: float) -> str:
    """The shortest way to write a duration."""
    for unit in ("h", "m", "s"):
        if seconds % _SECONDS[unit] == 0:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    return f"{seconds * 1000:.9g}ms"


def show_span(seconds: float) -> str:
    """The shortest way to write a span of whole seconds."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SPAN_SECONDS[unit] == 0:
            return f"{int(seconds) // _SPAN_SECONDS[unit]}{unit}"
    return f"{int(seconds)}s"


def show_percent(share: float) -> str:
    return f"{share * 100:g}%"
