"""What the ledger can never take, said so that it can be entered by hand."""

from __future__ import annotations

import json
import logging

from gateway.ledger.record import Attempt

logger = logging.getLogger("tollgate.ledger")


def say_refused(attempt: Attempt, why: str) -> None:
    """All of it, on one line."""
    fields = {**attempt._asdict(), "line": attempt.line._asdict(), "label": attempt.label._asdict()}
    logger.error("attempt lost, the ledger does not take it (%s): %s", why, json.dumps(fields, default=repr))
