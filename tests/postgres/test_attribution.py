"""The bill in PostgreSQL: what the tests of the job ask of SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.ledger.opening import open_store
from gateway.ledger.store import Store
from tests.unit.gateway.attribution.test_job import (
    test_a_correction_counts_as_a_part_of_its_attempt,
    test_a_worker_is_billed_from_its_first_reading_to_its_last_and_the_parts_sum,
    test_a_worker_that_goes_is_billed_to_its_last_reading_and_the_time_until_it_comes_back_is_unobserved,
    test_another_process_goes_on_where_one_was_killed,
    test_another_rate_splits_a_window,
    test_fits_are_written_down_and_read_again,
    test_two_that_write_the_bill_write_it_once,
    test_what_comes_late_reopens_its_windows_and_the_sum_stays,
)

__all__ = [
    "test_a_correction_counts_as_a_part_of_its_attempt",
    "test_a_worker_is_billed_from_its_first_reading_to_its_last_and_the_parts_sum",
    "test_a_worker_that_goes_is_billed_to_its_last_reading_and_the_time_until_it_comes_back_is_unobserved",
    "test_another_process_goes_on_where_one_was_killed",
    "test_another_rate_splits_a_window",
    "test_fits_are_written_down_and_read_again",
    "test_two_that_write_the_bill_write_it_once",
    "test_what_comes_late_reopens_its_windows_and_the_sum_stays",
]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with closing(open_store(url)) as store:
        yield store
