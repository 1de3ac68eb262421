from __future__ import annotations

import pytest

from gateway.ledger.journal.writer import Journal
from tests.unit.gateway.ledger.journal.rows import NEVER, SEGMENT


@pytest.fixture
def open_journal(tmp_path):
    opened = []

    def build(name="me", segments=4, sync_seconds=NEVER, segment_bytes=SEGMENT):
        journal = Journal(
            tmp_path, name, max_bytes=segments * segment_bytes, segment_bytes=segment_bytes, sync_seconds=sync_seconds
        )
        opened.append(journal)
        return journal

    yield build
    for journal in opened:
        journal.close()
