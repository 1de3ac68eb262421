"""One key of the store: every change, its form in the store, and which of two accounts is the later one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keyring.record import HISTORY_SECONDS, Record, RecordError, Retired, decode, encode, later
from gateway.table import Limits

NOW = 1_800_000_000.0


def record(**fields: object) -> Record:
    given = {"tenant": "support", "id": "prod", "digest": b"\1" * 32, "created": NOW - 100.0}
    return Record(**{**given, **fields})  # type: ignore[arg-type]


def digest(number: int) -> bytes:
    return number.to_bytes(32)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "active"),
        ({"expires": NOW + 0.001}, "active"),
        ({"expires": NOW}, "expired"),
        ({"revoked": NOW - 1}, "revoked"),
        ({"revoked": NOW - 1, "expires": NOW - 2}, "revoked"),
    ],
)
def test_states(fields: dict[str, object], state: str) -> None:
    assert record(**fields).state(NOW) == state


def test_an_earlier_secret_is_let_in_for_the_grace_and_no_longer() -> None:
    rotated = record().rotated(digest(2), 60.0, NOW)
    assert (rotated.digest, rotated.version) == (digest(2), 2)
    assert rotated.in_grace(NOW + 59.9) == (Retired(b"\1" * 32, NOW + 60.0),)
    assert rotated.in_grace(NOW + 60.0) == ()


def test_whoever_lost_the_output_of_a_rotation_rotates_again_and_no_client_breaks() -> None:
    twice = record().rotated(digest(2), 60.0, NOW).rotated(digest(3), 90.0, NOW + 10)
    assert twice.in_grace(NOW + 11) == (Retired(b"\1" * 32, NOW + 60.0), Retired(digest(2), NOW + 100.0))


def test_a_shorter_grace_holds_for_every_earlier_secret() -> None:
    once = record().rotated(digest(2), 3600.0, NOW)
    assert once.rotated(digest(3), 0.0, NOW + 1).retired == ()
    assert [old.until for old in once.rotated(digest(3), 5.0, NOW + 1).retired] == [NOW + 6, NOW + 6]


def test_a_revoked_key_keeps_no_secret() -> None:
    revoked = record().rotated(digest(2), 60.0, NOW).revoke(NOW + 1)
    assert (revoked.state(NOW + 1), revoked.in_grace(NOW + 1), revoked.version) == ("revoked", (), 3)


@pytest.mark.parametrize("fields", [{"revoked": NOW}, {"expires": NOW}])
def test_what_has_ended_becomes_history(fields: dict[str, object]) -> None:
    assert not record(**fields).is_history(NOW + HISTORY_SECONDS)
    assert record(**fields).is_history(NOW + HISTORY_SECONDS + 1)
    assert not record().is_history(NOW + 10 * HISTORY_SECONDS)


names = st.none() | st.frozensets(st.sampled_from(["chat-8b", "chat-8b:support", "auto"]))
times = st.none() | st.floats(0, 4e9)
records = st.builds(
    Record,
    tenant=st.just("support"),
    id=st.just("prod"),
    digest=st.binary(min_size=32, max_size=32),
    created=st.floats(0, 4e9),
    version=st.integers(1, 5),
    limits=st.builds(Limits, *[st.none() | st.integers(1, 10**9)] * 3),
    models=names,
    endpoints=names,
    expires=times,
    priority=st.sampled_from([None, "interactive", "batch"]),
    revoked=times,
    retired=st.lists(st.builds(Retired, st.binary(min_size=32, max_size=32), st.floats(0, 4e9)), max_size=3).map(tuple),
)


@given(records)
def test_the_stored_form_says_all(made: Record) -> None:
    assert decode(encode(made)) == made


def test_what_a_later_tollgate_adds_is_passed_over() -> None:
    assert decode(encode(record())[:-1] + b',"colour":"red"}') == record()


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"[]", b"null", b"{}", b'{"tenant":"a","id":"b","digest":"xy","created":1,"version":1}']
)
def test_junk_is_said_to_be_none(junk: bytes) -> None:
    with pytest.raises(RecordError):
        decode(junk)


def put_back(ours: Record, theirs: Record | None) -> Record | None:
    """What a store has that held `theirs`, after whoever knows `ours` has looked at it."""
    return later(ours, theirs) or theirs


@given(records)
def test_a_store_that_forgot_gets_what_it_had(ours: Record) -> None:
    assert put_back(ours, None) == ours


@given(ours=records, theirs=records)
def test_a_revocation_survives_whatever_a_store_forgets(ours: Record, theirs: Record) -> None:
    after = put_back(ours, theirs)
    assert after is not None
    assert (after.revoked is None) == (ours.revoked is None and theirs.revoked is None)


@given(st.lists(records, min_size=1, max_size=4), st.data())
def test_processes_that_disagree_come_to_agree_with_the_store(known: list[Record], data: st.DataObject) -> None:
    """In any order, and then nobody has anything to say any more."""
    stored: Record | None = data.draw(st.none() | records)
    for _ in range(2):
        for index in data.draw(st.permutations(range(len(known)))):
            change = later(known[index], stored)
            if change is not None:
                assert stored is None or change.version > stored.version
                stored = change
            assert stored is not None
            known[index] = stored
    assert all(later(ours, stored) is None for ours in known)


def test_the_same_account_is_not_put_back() -> None:
    assert later(record(), record()) is None
    assert later(record(), replace(record(), version=2)) is None
