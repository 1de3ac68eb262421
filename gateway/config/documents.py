"""Writes what is said of the configuration from the written models themselves: the JSON schema and the README's table.

    python -m gateway.config.documents router_config

A test holds both files against what this would write, so neither can fall behind.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo

from gateway.config.units import show_duration, show_percent, show_span
from gateway.config.written import Configuration
from gateway.config.written.fleet import Fleet
from gateway.config.written.gateway import Gateway
from gateway.config.written.hints import inside, literals
from gateway.config.written.models import Models
from gateway.config.written.routes import Routes
from gateway.config.written.tenants import Tenants

FILES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("gateway.yaml", Gateway),
    ("models.yaml", Models),
    ("fleet.yaml", Fleet),
    ("routes.yaml", Routes),
    ("tenants.yaml", Tenants),
)
BEGIN, END = "<!-- keys: generated -->", "<!-- end of keys -->"


def schema() -> str:
    """The JSON schema of every file, for editors and other programs."""
    document = cast(dict[str, Any], _plain(Configuration.model_json_schema()))
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tollgate configuration"}
    return json.dumps(head | document, indent=2, ensure_ascii=False) + "\n"


def key_table() -> str:
    """All keys in Markdown, a table for each file."""
    parts: list[str] = []
    for file, model in FILES:
        parts.append(f"### {file}\n\n| key | meaning | default |\n|---|---|---|\n")
        parts.extend(f"| `{path}` | {meaning} | {default} |\n" for path, meaning, default in _rows("", model))
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


def with_table(readme: str) -> str:
    """The README with its table brought up to date."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{key_table()}\n{END}{after}"


def write(directory: Path) -> None:
    readme = directory / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (directory / "schema.json").write_text(schema(), encoding="utf-8")


def _rows(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        below = inside(field.annotation)
        words = literals(field.annotation)
        meaning = (field.description or "") + (f": {', '.join(f'`{word}`' for word in words)}" if words else "")
        path = f"{prefix}{name}{below[0] if below else ''}"
        yield path, meaning.replace("|", "\\|"), _default(field)
        if below:
            yield from _rows(f"{path}.", below[1])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel) or value in ({}, []):
        return ""
    return f"`{_written(value, _pattern(field))}`"


def _pattern(field: FieldInfo) -> str:
    schemas = (part.json_schema or {} for part in field.metadata if isinstance(part, WithJsonSchema))
    return next((str(schema["pattern"]) for schema in schemas if "pattern" in schema), "")


def _written(value: Any, pattern: str) -> Any:
    """A default as it is written in YAML: seconds and shares have their units there."""
    if isinstance(value, float) and "%" in pattern:
        return show_percent(value)
    if isinstance(value, float) and "ms" in pattern:
        return show_duration(value)
    if isinstance(value, float) and "d)" in pattern:
        return show_span(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(node: Any) -> Any:
    """A schema without pydantic's titles and without our examples, which are YAML text; defaults as written."""
    if isinstance(node, list):
        return [_plain(item) for item in cast(list[Any], node)]
    if not isinstance(node, dict):
        return node
    found = cast(dict[str, Any], node)
    kept = {key: value for key, value in found.items() if not (key in ("title", "examples") and _is_note(value))}
    if "default" in kept:
        kept["default"] = _written(kept["default"], str(found.get("pattern", "")))
    return {key: value if key == "default" else _plain(value) for key, value in kept.items()}


def _is_note(value: Any) -> bool:
    """`title` and `examples` may also be names of keys; then a schema stands under them, which is a mapping."""
    return not isinstance(value, dict)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
