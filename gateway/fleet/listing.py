"""What an engine's /v1/models says: under which name it serves the base model, and which adapters it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple, cast

from gateway.routing.placement import read_engine_name
from gateway.table import Worker

_SHOWN = 5  # names quoted in a complaint


class Listed(NamedTuple):
    """`adapters` maps an adapter's configured name to the engine's name for it, `placed` the names that gateways have
    given to adapters there to the configured ones."""

    base_name: str
    adapters: Mapping[str, str]
    placed: Mapping[str, str] = MappingProxyType({})


class NotListed(Exception):
    """The list does not say which of its models is meant; the message says what to do."""


class _Card(NamedTuple):
    id: str
    has_parent: bool


def read_listing(document: object, worker: Worker, adapters: Collection[str]) -> Listed:
    """`adapters` are the configured names of the model's adapters. Raises `NotListed`."""
    cards = _cards(document)
    base_name = worker.serves_as or _base_name(cards, worker, adapters)
    prefixes = (f"{worker.model}@{worker.version}:", f"{worker.model}:", f"{base_name}:")
    found: dict[str, str] = {}
    placed = {card.id: name.adapter for card in cards if (name := read_engine_name(card.id, worker.model)) is not None}
    cards = [card for card in cards if card.id not in placed]
    # an engine may know one adapter by several names: the most specific is taken
    for prefix in prefixes:
        for card in cards:
            if card.id.startswith(prefix) and card.id not in (base_name, prefix):
                found.setdefault(card.id.removeprefix(prefix), card.id)
    for card in cards:
        is_plain = card.id != base_name and not card.id.startswith(prefixes)
        if is_plain and (card.has_parent or card.id in adapters):
            found.setdefault(card.id, card.id)
    return Listed(base_name, found, placed)


def _cards(document: object) -> list[_Card]:
    data = cast("Mapping[str, object]", document).get("data") if isinstance(document, Mapping) else None
    if not isinstance(data, list):
        raise NotListed("its /v1/models is no model list")
    cards: list[_Card] = []
    for item in cast("list[object]", data):
        if isinstance(item, Mapping):
            card = cast("Mapping[str, object]", item)
            name = card.get("id")
            if isinstance(name, str) and name:
                cards.append(_Card(name, bool(card.get("parent"))))
    return cards


def _base_name(cards: list[_Card], worker: Worker, adapters: Collection[str]) -> str:
    target = f"{worker.model}@{worker.version}"
    names = [card.id for card in cards if not card.has_parent]
    for name in (target, worker.model):
        if name in names:
            return name
    prefixes = (f"{worker.model}:", f"{target}:")
    bases = [name for name in names if name not in adapters and not name.startswith(prefixes)]
    if len(bases) == 1:
        return bases[0]
    if not bases:
        raise NotListed("it lists no base model")
    shown = ", ".join(bases[:_SHOWN]) + (", …" if len(bases) > _SHOWN else "")
    raise NotListed(
        f"it lists {len(bases)} models and none is {target} or {worker.model}: set `serves_as` to one of {shown}"
    )
