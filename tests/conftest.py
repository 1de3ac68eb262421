"""What holds for all tests."""

from __future__ import annotations

import gc

from gateway.compiled import is_compiled


def pytest_report_header() -> str:
    """Which gateway is tested: the same tests run on either form."""
    return f"gateway: {'compiled' if is_compiled() else 'plain Python'}"


def pytest_collection_finish() -> None:
    """What has been imported stays: collecting after a test then looks at little more than what that test has left, in
    a hundredth of the time."""
    gc.collect()
    gc.freeze()
