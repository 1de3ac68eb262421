"""What of a source fits the written models. What does not has been said with its place and a remedy.

Every entry (one worker, one route, one tenant) is judged by itself, so that one mistake hides no other. An entry that
does not fit is None and stays known by name; a worker, route or tenant that fits without its faulty optional keys is
kept without them and marked as partial: what it refers to can still be checked, what it lacks says nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.document import describe
from gateway.config.problems import choices, did_you_mean
from gateway.config.source import NAMED, KeyPath, Source
from gateway.config.written import Configuration
from gateway.config.written.fleet import Gpu, Worker
from gateway.config.written.hints import Hint, hint_at
from gateway.config.written.models import Model
from gateway.config.written.routes import Route
from gateway.config.written.tenants import Tenant


@dataclass(slots=True)
class Draft:
    """The entries that stand on their own; lint looks at how they stand together."""

    source: Source
    partial: set[KeyPath] = field(default_factory=set[KeyPath])
    settings: Configuration = field(default_factory=Configuration)  # its entries are unused: they are here
    models: dict[str, Model | None] = field(default_factory=dict[str, Model | None])
    aliases: dict[str, str | None] = field(default_factory=dict[str, str | None])
    gpus: dict[str, Gpu | None] = field(default_factory=dict[str, Gpu | None])
    workers: list[Worker | None] = field(default_factory=list[Worker | None])
    routes: list[Route | None] = field(default_factory=list[Route | None])
    tenants: dict[str, Tenant | None] = field(default_factory=dict[str, Tenant | None])
    authorities: dict[str, str] = field(default_factory=dict[str, str])  # PEM text by `tls.ca` as written

    def whole(self, section: str, entry: str | int) -> bool:
        return (section, entry) not in self.partial


_LISTED = frozenset(("workers", "routes"))
_SALVAGED = frozenset(("workers", "routes", "tenants"))  # no entry of another kind depends on what is inside these


def draft(source: Source) -> Draft:
    """Reads the source into written models; complaints go to `source.findings`."""
    result = Draft(source)
    settings: dict[str, Any] = {}
    for key, place in source.mentioned.items():
        if key not in Configuration.model_fields:
            remedy = did_you_mean(key, Configuration.model_fields, "delete it")
            source.findings.error(place, f"unknown top-level key `{key}`", remedy)
        elif key in source.data:
            value: Any = source.data[key]
            if key in NAMED and isinstance(value, dict):
                entries = cast(dict[str, Any], value)
                target = getattr(result, key)
                for name, entry in entries.items():
                    fitted = _fit(result, (key, name), {key: {name: entry}})
                    target[name] = None if fitted is None else getattr(fitted, key)[name]
            elif key in _LISTED and isinstance(value, list):
                target = getattr(result, key)
                for index, entry in enumerate(cast(list[Any], value)):
                    fitted = _fit(result, (key, index), {key: [entry]})
                    target.append(None if fitted is None else getattr(fitted, key)[0])
            elif _fit(result, (key,), {key: value}) is not None:
                settings[key] = value
            elif key in NAMED | _LISTED:
                source.unread = True  # names that others refer to are missing
    result.settings = Configuration.model_validate(settings)
    return result


def _fit(result: Draft, entry: KeyPath, data: dict[str, Any]) -> Configuration | None:
    """One entry, alone in its section. `entry` is where it really stands, which is where its errors are."""
    try:
        return Configuration.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    paths = [tuple(step for step in detail["loc"] if step != "[key]") for detail in details]
    for path, detail in zip(paths, details, strict=True):
        _complain(result.source, (*entry, *path[len(entry) :]), detail)
    if entry[0] not in _SALVAGED:
        return None
    kinds = [detail["type"] for detail in details]
    rest = _without(data, list(zip(paths, kinds, strict=True)))
    if rest is None:
        return None
    result.partial.add(entry)
    return Configuration.model_validate(rest)


def _without(data: dict[str, Any], faults: list[tuple[KeyPath, str]]) -> dict[str, Any] | None:
    """The data without its faulty keys, None where one of them cannot be spared."""
    rest = copy.deepcopy(data)
    for path, kind in faults:
        spare = kind == "extra_forbidden" or (kind != "missing" and hint_at(Configuration, path).optional)
        holder: Any = rest
        for step in path[:-1]:
            holder = _step(holder, step)
        if not spare or not isinstance(holder, dict) or len(path) < 3:
            return None
        cast(dict[str | int, Any], holder).pop(path[-1], None)
    return rest


def _complain(source: Source, path: KeyPath, detail: ErrorDetails) -> None:
    if path in source.doubted:
        return
    kind = detail["type"]
    name = spell(source, path)
    if kind == "extra_forbidden":
        parent = hint_at(Configuration, path[:-1])
        wrong = f"unknown key `{path[-1]}` in `{spell(source, path[:-1])}`"
        remedy = did_you_mean(str(path[-1]), parent.keys, "delete it")
    elif kind == "missing":
        wrong = f"`{spell(source, path[:-1])}` has no `{path[-1]}`"
        remedy = _example(hint_at(Configuration, path))
    elif path in source.secret:
        # Whatever is wrong with it, a value from the environment is never repeated.
        wrong = f"`{name}`: what `{source.secret[path]}` holds does not fit"
        remedy = _example(hint_at(Configuration, path))
    elif kind == "refused":
        context = detail.get("ctx", {})
        wrong, remedy = f"`{name}`: {context['wrong']}", str(context["remedy"])
    else:
        shown = source.written.get(path) or str(detail["input"])
        wrong, remedy = _misfit(name, kind, shown[:60], detail, hint_at(Configuration, path))
    source.findings.error(source.place(*path), wrong, remedy)


_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def _misfit(name: str, kind: str, shown: str, detail: ErrorDetails, hint: Hint) -> tuple[str, str]:
    """A value of the wrong kind or size."""
    value: Any = detail["input"]
    context = detail.get("ctx", {})
    example = _example(hint)
    if kind == "literal_error":
        wrong = f"`{name}` cannot be `{shown}`"
        return wrong, did_you_mean(shown, hint.choices, f"write one of {choices(hint.choices)}")
    if wanted := _KINDS.get(kind):
        if value is None:
            return f"`{name}` is empty and must be {wanted}", f"{example}, or delete the key"
        if kind == "string_type" and isinstance(value, bool | int | float):
            return f"`{name}` is {describe(value)} and must be text", f'quote it: "{shown}"'
        if isinstance(value, str) and wanted.endswith("number"):
            return f"`{name}` is the text `{shown}` and must be {wanted}", example
        what = shown if isinstance(value, int | float) else describe(value)
        return f"`{name}` is {what} and must be {wanted}", example
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"`{name}` must be {words} {context[bound]}, not {shown}", example
    if kind in ("too_short", "string_too_short"):
        return f"`{name}` is empty", f"{example}, or delete the key"
    if kind in ("too_long", "string_too_long"):
        return f"`{name}` is longer than {context['max_length']}", f"shorten it; {example}"
    return f"`{name}`: {detail['msg']}", example


def _example(hint: Hint) -> str:
    return f"write for example `{hint.example}` ({hint.description[:1].lower()}{hint.description[1:]})"


def spell(source: Source, path: KeyPath) -> str:
    """`workers.burst.price`: a path as people say it, with the names of list entries for their numbers."""
    words: list[str] = []
    value: Any = source.data
    for step in path:
        value = _step(value, step)
        name = _step(value, "name") or _step(value, "id")
        words.append(name if isinstance(step, int) and isinstance(name, str) else str(step))
    return ".".join(words)


def _step(value: Any, step: str | int) -> Any:
    """What `step` leads to, None where it leads nowhere."""
    try:
        return value[step]
    except (KeyError, IndexError, TypeError):
        return None
