"""Whether this gateway's data plane was compiled ahead of time or runs as plain Python."""

from __future__ import annotations

from importlib.util import find_spec


def is_compiled() -> bool:
    """Imports nothing of it."""
    spec = find_spec("gateway.serve")
    return spec is not None and not (spec.origin or "").endswith(".py")
