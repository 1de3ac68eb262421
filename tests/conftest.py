"""What holds for all tests."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """What has been imported and collected stays: a collection after a test then looks at little more than what the test
    left, which takes a hundredth of the time."""
    gc.collect()
    gc.freeze()
