"""The report's colours, in light and in dark: one per version, those of a verdict, and the grounds they stand on."""

from __future__ import annotations

import math

VERSIONS = 8

# Each stands out from the grounds by 4.5 : 1 (WCAG 2.2, 1.4.3). Neighbours differ in lightness or between blue and
# yellow, so that red-green blindness leaves them apart.
LIGHT = {
    "ground": "#ffffff",
    "raised": "#f5f6f8",
    "ink": "#16191f",
    "muted": "#59616f",
    "line": "#d5d9e0",
    "pass": "#14703f",
    "pass-ground": "#e7f5ec",
    "fail": "#b3261e",
    "fail-ground": "#fdecea",
    "open": "#805200",
    "open-ground": "#fdf3dc",
    "ref": "#59616f",
    "c0": "#1f5fc4",
    "c1": "#b34a00",
    "c2": "#0b7375",
    "c3": "#a62a86",
    "c4": "#806000",
    "c5": "#6444c4",
    "c6": "#8a4632",
    "c7": "#4b7010",
}
DARK = {
    "ground": "#14171c",
    "raised": "#1d2128",
    "ink": "#eceff4",
    "muted": "#a3acba",
    "line": "#363d48",
    "pass": "#5fd394",
    "pass-ground": "#14291e",
    "fail": "#ff8f85",
    "fail-ground": "#33191a",
    "open": "#f0bd57",
    "open-ground": "#2e2613",
    "ref": "#a3acba",
    "c0": "#7fb0ff",
    "c1": "#ff9d5c",
    "c2": "#4fd0cf",
    "c3": "#f08fd6",
    "c4": "#e5c04a",
    "c5": "#b6a2ff",
    "c6": "#e0a58f",
    "c7": "#a8cf5e",
}


def variables(colours: dict[str, str]) -> str:
    return ";".join(f"--{name}:{colour}" for name, colour in colours.items())


def tones() -> str:
    """The rule that gives everything of one version its colour."""
    return "".join(f".{name}{{--tone:var(--{name})}}" for name in ("ref", *(f"c{one}" for one in range(VERSIONS))))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2), from 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else math.pow((c + 0.055) / 1.055, 2.4) for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
