"""What the audits of late come to, worker by worker. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gateway.ledger.audits import Audit


class Standing(NamedTuple):
    """Tokens are prompt and output together; `drift` counts what was too much on either side."""

    worker: str
    engine: int = 0
    ledger: int = 0
    corrected: int = 0
    drift: int = 0
    slack: int = 0  # how far off the rest of it may be
    estimated: int = 0  # attempts
    unobserved_seconds: float = 0.0
    audited_through: float = 0.0  # Unix seconds
    exact_through: float = 0.0

    @property
    def ratio(self) -> float:
        """The part of the tokens that is drift."""
        return self.drift / max(1, self.engine, self.ledger + self.corrected)


def standings(audits: Iterable[Audit]) -> dict[str, Standing]:
    """`audits` by worker and time. One without quiet ends counts until an exact one covers its span."""
    by_worker: dict[str, list[Audit]] = {}
    for audit in audits:
        by_worker.setdefault(audit.worker, []).append(audit)
    return {worker: _standing(worker, found) for worker, found in by_worker.items()}


def _standing(worker: str, found: list[Audit]) -> Standing:
    exact_through = max((audit.ended_at for audit in found if audit.exact), default=0.0)
    busy = [audit for audit in found if audit.reason == "busy" and audit.ended_at > exact_through]
    counted = [audit for audit in found if audit.reason != "busy"] + busy[-1:]  # each begins where the last one did
    standing = Standing(worker, exact_through=exact_through)
    for audit in counted:
        if audit.unobserved_seconds:
            standing = standing._replace(unobserved_seconds=standing.unobserved_seconds + audit.unobserved_seconds)
            continue
        standing = standing._replace(
            engine=standing.engine + audit.engine_prompt + audit.engine_output,
            ledger=standing.ledger + audit.ledger_prompt + audit.ledger_output,
            corrected=standing.corrected + audit.corrected_prompt + audit.corrected_output,
            drift=standing.drift + abs(audit.drift_prompt) + abs(audit.drift_output),
            slack=standing.slack + audit.slack_prompt + audit.slack_output,
            estimated=standing.estimated + audit.estimated,
            audited_through=max(standing.audited_through, audit.ended_at),
        )
    return standing
