"""What holds for all tests."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from gateway.compiled import is_compiled

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


# A shell has what it starts in the background ignore interrupts, and every command that a test starts would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Which gateway is tested: the same tests run on either form."""
    return f"gateway: {'compiled' if is_compiled() else 'plain Python'}"


def pytest_collection_finish() -> None:
    """What has been imported stays: collecting after a test then looks at little more than what that test has left, in
    a hundredth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_left_to_the_next_test() -> Iterator[None]:
    """Of what a whole process shares: else the order of tests decides what they find."""
    before = _shared_by_all()
    yield
    assert _shared_by_all() == before, "this test leaves the process other than it found it"


def _shared_by_all() -> tuple[object, ...]:
    return logging.getLogger().level, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
