"""What the written models say of a key: its meaning, an example, and the keys or words it takes."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class Hint(NamedTuple):
    description: str
    example: str  # `key: value`
    keys: tuple[str, ...]  # of a mapping with fixed keys
    choices: tuple[str, ...]  # of a word out of a closed list
    optional: bool  # it is a key with a default


def hint_at(root: type[BaseModel], path: tuple[str | int, ...]) -> Hint:
    """The hint for the value at `path`. Inside a list or a mapping of names, the whole's description holds."""
    annotation: Any = root
    description, example, optional = "", "", False
    for step in path:
        model, inner = _model(annotation), _parts(annotation)
        if model is not None:
            field = model.model_fields.get(str(step))
            if field is None:
                return Hint(description, example, (), (), False)
            annotation, description, example = field.annotation, field.description or "", show_example(step, field)
            optional = not field.is_required()
        elif inner:
            annotation, optional = inner[-1], False
    model = _model(annotation)
    keys = tuple(model.model_fields) if model else ()
    return Hint(description, example, keys, literals(annotation), optional)


def show_example(key: str | int, field: FieldInfo) -> str:
    """`key: value`, the value from the field's example, or from those of the mapping it holds."""
    if field.examples:
        return f"{key}: {field.examples[0]}"
    model = _model(field.annotation)
    inner = (show_example(name, part) for name, part in model.model_fields.items()) if model else ()
    return f"{key}: {{{', '.join(inner)}}}"


def literals(annotation: Any) -> tuple[str, ...]:
    found: Iterator[Any] = (part for part in _flat(annotation) if get_origin(part) is Literal)
    return tuple(str(word) for part in found for word in get_args(part))


def inside(annotation: Any) -> tuple[str, type[BaseModel]] | None:
    """The mapping of fixed keys within an annotation, and how it is reached: "", `.NAME` or `[]`."""
    if model := _model(annotation):
        return "", model
    for part in _flat(annotation):
        inner = _parts(part)
        if inner and (model := _model(inner[-1])):
            return (".NAME" if get_origin(part) is dict else "[]"), model
    return None


def _flat(annotation: Any) -> Iterator[Any]:
    """An annotation without its `| None` and its metadata."""
    if get_origin(annotation) is Annotated:
        yield from _flat(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _flat(part)
    else:
        yield annotation


def _model(annotation: Any) -> type[BaseModel] | None:
    return next((part for part in _flat(annotation) if isinstance(part, type) and issubclass(part, BaseModel)), None)


def _parts(annotation: Any) -> tuple[Any, ...]:
    return next((get_args(part) for part in _flat(annotation) if get_origin(part) in (dict, list)), ())
