"""A decision as text: who asked for what, the candidates, what was left out, what was tried, what came."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.explain.record import Document

NOTHING = "–"
WITHOUT_TERMINAL = 1000  # a pipe has no width, and a name that is cut off cannot be copied
_OUTCOMES = {
    "ok": "answered",
    "cached": "answered from the cache",
    "aborted": "the client left",
    "hedged": "another worker answered first",
    "broken": "broke in the middle",
    "failed": "failed",
    "rejected": "refused",
    "crashed": "the gateway was killed",
}


def show(found: Document, width: int | None = None) -> None:
    """Prints it, in columns of characters as wide as the terminal is unless `width` says so."""
    from rich.console import Console

    if width is None and not sys.stdout.isatty():
        width = WITHOUT_TERMINAL
    console = Console(width=width, markup=False, highlight=False, soft_wrap=True)
    for line in _head(found):
        console.print(line)
    _candidates(console, found)
    _dropped(console, found)
    if "result" in found:
        _attempts(console, found["attempts"])
        for line in _result(found):
            console.print(line)


def _head(found: Document) -> list[str]:
    asked = found["request"]
    lines = [f"{found['request_id'] or 'described, not sent'}  {found['at']}  configuration {found['config']}"]
    who = asked["tenant"] or "nobody known"
    if asked["key"]:
        who += f" (key {asked['key']})"
    what = [f"{who} asked for {asked['model'] or 'what was never read'}"]
    if asked["endpoint"]:
        what.append(f"through {asked['endpoint']}{', streamed' if asked['stream'] else ''}")
    lines.append(" ".join(what))
    if asked["prompt_tokens"] is not None:
        prompt, output = asked["prompt_tokens"], asked["output_tokens"]
        lines.append(f"expected: {prompt:,} prompt tokens, {output:,} output tokens")
    if asked["preferences"]:
        wishes = ", ".join(f"{name} {_plain(value)}" for name, value in asked["preferences"].items())
        lines.append(f"it wished: {wishes}")
    if found["route"] is not None:
        lines.append(f"route {found['route']}: {found['reason']}")
    if found["error"] is not None:
        error = found["error"]
        lines.append(f"refused or failed: {error['code']}" + (f": {error['message']}" if error["message"] else ""))
    return lines


def _candidates(console: Console, found: Document) -> None:
    candidates = found["candidates"]
    if not candidates:
        return
    terms = list(candidates[0]["terms"])
    headings = [
        "",
        "worker",
        "target",
        "score ms",
        *map(_heading, terms),
        "first token ms",
        "in all ms",
        "cached",
        "cost $",
    ]
    rows = [
        [
            str(place),
            one["worker"],
            one["target"],
            _ms(one["score_seconds"]),
            *[_ms(one["terms"][name]) for name in terms],
            _ms(one["ttft_seconds"]),
            _ms(one["seconds"]),
            f"{one['cached_tokens']:,}",
            _usd(one["cost_usd"]),
        ]
        for place, one in enumerate(candidates, 1)
    ]
    _table(console, "Candidates, best first", headings, rows, left=(1, 2))
    if found["more_candidates"]:
        console.print(f"and {found['more_candidates']:,} more behind these")


def _dropped(console: Console, found: Document) -> None:
    if not found["dropped"]:
        return
    rows = [[one["worker"] or "any", one["target"], one["reason"], one["why"]] for one in found["dropped"]]
    _table(console, "Left out", ["worker", "target", "reason", "why"], rows, left=(0, 1, 2, 3))
    if found["more_dropped"]:
        console.print(f"and {found['more_dropped']:,} more")


def _attempts(console: Console, attempts: list[Document]) -> None:
    if not attempts:
        return
    rows = [
        [
            str(one["number"]),
            one["worker"],
            _ms(one["after_seconds"]),
            _ms(one["ttft_seconds"]),
            _ms(one["duration_seconds"]),
            _OUTCOMES.get(one["outcome"], str(one["outcome"])),
            str(one["status"] or NOTHING),
            _usd(one["cost_usd"]),
        ]
        for one in attempts
    ]
    headings = ["", "worker", "asked after ms", "first token ms", "took ms", "what came", "status", "cost $"]
    _table(console, "Attempts", headings, rows, left=(1, 5))


def _result(found: Document) -> list[str]:
    result, prediction = found["result"], found["prediction"]
    counted = "estimated" if result["estimated"] else "counted"
    lines = [
        f"result: {result['status']}, {_OUTCOMES.get(result['outcome'], result['outcome'])}, cache {result['cache']}",
        f"tokens {counted}: {result['prompt_tokens']:,} prompt ({result['cached_tokens']:,} of them cached), "
        f"{result['output_tokens']:,} output; cost $ {_usd(result['cost_usd'])}",
        f"first token after {_ms(result['ttft_seconds'])} ms, end after {_ms(result['duration_seconds'])} ms, "
        f"of which {_ms(result['queued_seconds'])} ms waiting for a worker with room",
    ]
    if prediction is None:
        return lines
    lines.append(f"predicted and realised on {prediction['worker']}:")
    for name, label, spell in (
        ("ttft_seconds", "first token ms", _ms),
        ("duration_seconds", "in all ms", _ms),
        ("cost_usd", "cost $", _usd),
    ):
        one = prediction[name]
        if one["realised"] is not None:
            ratio = "" if one["ratio"] is None else f"  × {one['ratio']:.2f}"
            lines.append(f"  {label:<15}{spell(one['predicted']):>12}{spell(one['realised']):>14}{ratio}")
    return lines


def _table(
    console: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], left: tuple[int, ...]
) -> None:
    """Where the terminal is too narrow for its columns, each row is a paragraph."""
    from rich.measure import Measurement
    from rich.padding import Padding
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="left" if at in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    if Measurement.get(console, console.options.update(max_width=WITHOUT_TERMINAL), table).minimum <= console.width:
        console.print(table, soft_wrap=False)
        return
    console.print(title, style="bold")
    for row in rows:
        cells = [f"{heading} {cell}" if heading else cell for heading, cell in zip(headings, row, strict=True)]
        console.print(Padding(", ".join(cells), (0, 0, 0, 2)), soft_wrap=False)


def _heading(term: str) -> str:
    return term.removesuffix("_seconds").replace("_", " ")


def _ms(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds * 1000:,.2f}"


def _usd(usd: float) -> str:
    return f"{usd:.9f}"


def _plain(value: object) -> str:
    return ", ".join(map(str, cast("list[object]", value))) if isinstance(value, list) else str(value)
