"""Sensitivity of every layer as a map: blocks downwards, the kinds of their layers across."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from workers.evaluation.report.figures.canvas import Drawing, text, widest
from workers.evaluation.report.markup import Markup, joined, tag
from workers.evaluation.report.numbers import number
from workers.evaluation.result import Layer

_NAME = re.compile(r"^(?:.*\.)?(?:layers|blocks|h)\.(\d{1,5})\.(?:.*\.)?([\w-]+)$")
_KINDS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Map:
    """Layers by block and kind, and those that have no place there (the head, embeddings)."""

    blocks: tuple[int, ...]
    kinds: tuple[str, ...]
    cells: dict[tuple[int, str], Layer]
    others: tuple[Layer, ...]


def mapped(layers: Sequence[Layer]) -> Map:
    cells: dict[tuple[int, str], Layer] = {}
    others: list[Layer] = []
    for layer in layers:
        found = _NAME.match(layer.name)
        key = (int(found[1]), found[2]) if found else None
        if key is None or key in cells:
            others.append(layer)
        else:
            cells[key] = layer
    kinds = sorted({kind for _, kind in cells}, key=lambda one: (_KINDS.index(one) if one in _KINDS else 99, one))
    return Map(tuple(sorted({block for block, _ in cells})), tuple(kinds), cells, tuple(others))


def heat(found: Map, width: float, alt: str, tone: str) -> Drawing:
    """The darker, the more the output changes; a ring is a layer kept at the reference's precision."""
    left = 12 + widest([str(block) for block in found.blocks]) + 34
    wide = (width - left - 6) / max(1, len(found.kinds))
    high = 26.0 if len(found.blocks) <= 16 else 16.0
    told = high > 20 and widest([number(one.mean_kld, 1) for one in found.cells.values()]) <= wide - 6
    positive = [one.mean_kld for one in found.cells.values() if math.isfinite(one.mean_kld) and one.mean_kld > 0]
    low, top = math.log(min(positive, default=1e-6)), math.log(max(positive, default=1.0))
    parts: list[Markup] = [
        text(left + wide * (place + 0.5), 12, kind.removesuffix("_proj"), "small muted", anchor="middle", room=wide - 2)
        for place, kind in enumerate(found.kinds)
    ]
    for row, block in enumerate(found.blocks):
        y = 20 + row * high
        if high > 20 or row % 4 == 0:
            parts.append(text(left - 8, y + high / 2 + 4, f"block {block}", "small muted", anchor="end"))
        for column, kind in enumerate(found.kinds):
            if layer := found.cells.get((block, kind)):
                share = _share(layer.mean_kld, low, top)
                parts.append(_cell(layer, left + wide * column, y, wide, high, share, tone, told))
    return Drawing(width, 20 + high * len(found.blocks) + 6, alt, joined(*parts))


def _share(value: float, low: float, top: float) -> float:
    if not math.isfinite(value):
        return 1.0
    return 0.0 if value <= 0 else 1.0 if top <= low else (math.log(value) - low) / (top - low)


def _cell(layer: Layer, x: float, y: float, wide: float, high: float, share: float, tone: str, told: bool) -> Markup:
    said = f"{layer.name}: {number(layer.mean_kld, 2)}" + (", kept" if layer.kept else "")
    inside = {"x": x + 1, "y": y + 1, "width": wide - 2, "height": high - 2, "rx": 3}
    body = tag("rect", tag("title", said), **inside, class_=f"solid {tone}", fill_opacity=0.06 + 0.5 * share)
    ring = (
        tag("rect", x=x + 2, y=y + 2, width=wide - 4, height=high - 4, rx=2, class_=f"ring {tone}")
        if layer.kept
        else ""
    )
    value = number(layer.mean_kld, 1)
    label = text(x + wide / 2, y + high / 2 + 4, value, "small", anchor="middle") if told else ""
    return joined(body, ring, label)
