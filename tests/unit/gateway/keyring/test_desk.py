"""Create, rotate, revoke: what is done, what is refused, and others who do so at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.config.units import UnitError
from gateway.errors import Conflict, NotFound
from gateway.keyring import desk
from gateway.keyring.record import HISTORY_SECONDS, MAX_RETIRED, Record
from gateway.keyring.store import StoreAway
from gateway.table import Limits
from gateway.tenancy.keys import digest
from tests.unit.gateway.keyring.stores import DictStore

NOW = 1_800_000_000.0
WANTED = desk.Wanted("support", limits=Limits(rpm=3), models=frozenset({"m"}), expires=NOW + 60, priority="batch")


@pytest.fixture
def store() -> DictStore:
    return DictStore()


def create(
    store: DictStore, wanted: desk.Wanted = WANTED, written: tuple[str, ...] = (), now: float = NOW
) -> desk.Made:
    return asyncio.run(desk.create(store, wanted, written, lambda: now))


def rotate(store: DictStore, key_id: str = "key-1", grace: float = 60.0, now: float = NOW) -> desk.Made:
    return asyncio.run(desk.rotate(store, "support", key_id, grace, lambda: now))


def revoke(store: DictStore, key_id: str = "key-1", now: float = NOW) -> Record:
    return asyncio.run(desk.revoke(store, "support", key_id, lambda: now))


def test_a_made_key_is_stored_as_wanted_and_by_its_digest_only(store: DictStore) -> None:
    made = create(store)
    assert store.records == {("support", "key-1"): made.record}
    assert made.record.digest == digest(made.key)
    kept = made.record
    assert (kept.limits, kept.models, kept.expires, kept.priority) == (Limits(rpm=3), {"m"}, NOW + 60, "batch")
    assert (kept.created, kept.endpoints) == (NOW, None)


def test_ids_are_numbered_past_those_of_the_yaml_and_of_revoked_keys(store: DictStore) -> None:
    create(store, written=("key-1",))
    revoke(store, "key-2")
    assert create(store, written=("key-1",)).record.id == "key-3"


def test_the_same_id_belongs_to_each_tenant_by_itself(store: DictStore) -> None:
    create(store)
    assert create(store, WANTED._replace(tenant="research")).record.id == "key-1"


@pytest.mark.parametrize("taken", ["written", "stored", "revoked"])
def test_a_taken_id_is_refused(store: DictStore, taken: str) -> None:
    wanted = WANTED._replace(id="prod")
    if taken != "written":
        create(store, wanted)
    if taken == "revoked":
        revoke(store, "prod")
    with pytest.raises(Conflict, match="already has a key called prod") as caught:
        create(store, wanted, ("prod",) if taken == "written" else ())
    assert caught.value.code == "key_exists"
    assert ("revoked" in caught.value.message) is (taken == "revoked")


def test_history_makes_room(store: DictStore) -> None:
    create(store)
    revoke(store)
    assert create(store, now=NOW + HISTORY_SECONDS + 1).record.id == "key-1"
    assert len(store.records) == 1


def test_a_full_store_takes_no_more(store: DictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MAX_KEYS", 1)
    create(store)
    with pytest.raises(Conflict, match="holds 1 keys"):
        create(store)


def test_two_who_make_a_key_at_once_get_two_keys(store: DictStore) -> None:
    other = replace(create(DictStore()).record, digest=b"other")
    store.rivals = [other]
    assert create(store).record.id == "key-2"
    assert store.records["support", "key-1"] == other


def test_a_rotation_gives_the_same_key_a_new_secret(store: DictStore) -> None:
    first, second = create(store), rotate(store)
    assert second.key != first.key
    assert store.records["support", "key-1"] == first.record.rotated(digest(second.key), 60.0, NOW)


def test_a_revocation_that_comes_first_stops_a_rotation(store: DictStore) -> None:
    record = create(store).record
    store.rivals = [record.revoke(NOW)]
    with pytest.raises(Conflict, match="key-1 of support is revoked: create another") as caught:
        rotate(store)
    assert caught.value.code == "key_revoked"


def test_a_rotation_that_comes_first_does_not_stop_a_revocation(store: DictStore) -> None:
    store.rivals = [create(store).record.rotated(b"other", 60.0, NOW)]
    assert revoke(store).version == 3
    assert store.records["support", "key-1"].in_grace(NOW) == ()


def test_an_expired_key_is_not_rotated(store: DictStore) -> None:
    create(store)
    with pytest.raises(Conflict, match="is expired") as caught:
        rotate(store, now=NOW + 60)
    assert caught.value.code == "key_expired"


def test_earlier_secrets_are_bounded_and_a_rotation_without_grace_ends_them(store: DictStore) -> None:
    create(store, WANTED._replace(expires=None))
    for _ in range(MAX_RETIRED):
        rotate(store)
    with pytest.raises(Conflict, match=r"8 earlier secrets .* until 2027-01-15T08:01:00Z: .*grace of 0s"):
        rotate(store)
    assert rotate(store, grace=0.0).record.retired == ()


def test_revoking_again_changes_nothing(store: DictStore) -> None:
    create(store)
    first = revoke(store)
    assert revoke(store, now=NOW + 5) == first == store.records["support", "key-1"]


def test_a_key_that_never_was_is_not_found(store: DictStore) -> None:
    create(store)
    for change in (rotate, revoke):
        with pytest.raises(NotFound, match=r"no key called none of support; of this tenant it has: key-1\.") as caught:
            change(store, "none")
        assert caught.value.code == "key_not_found"


def test_who_never_gets_a_word_in_is_told(store: DictStore) -> None:
    record = create(store).record
    store.rivals = [replace(record, version=version) for version in range(2, 20)]
    with pytest.raises(Conflict, match="at the same time"):
        rotate(store)
    with pytest.raises(Conflict, match="at the same time"):
        revoke(store)


def test_a_store_that_takes_nothing_gives_out_no_key(store: DictStore) -> None:
    store.full = True
    with pytest.raises(StoreAway):
        create(store)
    assert store.records == {}


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("30d", NOW + 30 * 86_400),
        ("90m", NOW + 5400),
        ("2027-01-31", 1_801_353_600.0),
        ("2027-01-31T12:00Z", 1_801_396_800.0),
    ],
)
def test_when_a_key_ends(text: str, at: float) -> None:
    assert desk.ending(text, NOW) == at


@pytest.mark.parametrize("text", ["", "soon", "30", "1.5h", "-3d", "2027-13-01", "٣d"])
def test_what_is_no_end_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UnitError, match="write for example `30d`, `2027-01-31`"):
        desk.ending(text, NOW)


@pytest.mark.parametrize("text", ["0s", "2026-01-01"])
def test_an_end_that_has_passed_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="has passed"):
        desk.ending(text, NOW)
