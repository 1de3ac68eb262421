"""The cost model as it was last fitted: what each kind of work takes on a model's workers, and how well that holds."""

from __future__ import annotations

from typing import NamedTuple

from gateway.ledger.opening import open_books


class Fit(NamedTuple):
    """Seconds of a worker's time; `at` is in Unix seconds. It tells `r2` of the variance of `n` windows."""

    model: str
    version: str
    gpu: str
    at: float
    n: int
    r2: float
    a0: float
    a1: float
    a2: float
    a3: float
    a4: float


MEANINGS = (
    ("a0", "a step"),
    ("a1", "a new prompt token"),
    ("a2", "a new prompt token, for each one before it"),
    ("a3", "an output token"),
    ("a4", "an output token, for each one before it"),
)


def latest(url: str) -> list[Fit]:
    """The last fit of each model, version and kind of GPU. Raises LedgerError."""
    with open_books(url).snapshot() as ledger:
        rows = ledger.rows(
            f"""
            SELECT {", ".join(Fit._fields)} FROM fits WHERE at = (
                SELECT MAX(later.at) FROM fits AS later
                WHERE later.model = fits.model AND later.version = fits.version AND later.gpu = fits.gpu
            )
            ORDER BY model, version, gpu
            """
        )
    return [Fit(*row) for row in rows]
