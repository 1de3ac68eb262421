"""The YAML's keys and the store's as one mapping."""

from __future__ import annotations

from dataclasses import replace

from gateway.keyring.merge import Merger
from gateway.keyring.record import Record
from gateway.table import Key, Limits, Tenant

NOW = 1_800_000_000.0
SUPPORT = Tenant("support", None, Limits(), None, 1.0, "standard")
TENANTS = {"support": SUPPORT}
WRITTEN = Key("prod", b"written", SUPPORT)


def record(key_id: str, digest: bytes, **fields: object) -> Record:
    return Record(**{"tenant": "support", "id": key_id, "digest": digest, "created": NOW, **fields})  # type: ignore[arg-type]


def merged(*records: Record) -> tuple[dict[bytes, Key], set[tuple[str, str]]]:
    found = Merger().merge({WRITTEN.digest: WRITTEN}, TENANTS, records)
    return {digest: key for digest, key in found.by_digest.items() if key is not WRITTEN}, set(found.shadowed)


def test_a_record_becomes_a_key_with_all_that_restricts_it() -> None:
    limits = Limits(rpm=5)
    scopes = {"models": frozenset({"m"}), "endpoints": frozenset({"score"}), "expires": NOW + 9, "priority": "batch"}
    keys, _ = merged(record("a", b"a", limits=limits, **scopes))
    assert keys == {b"a": Key("a", b"a", SUPPORT, limits=limits, **scopes)}  # type: ignore[arg-type]


def test_an_earlier_secret_in_its_grace_is_the_same_key_with_an_earlier_end() -> None:
    rotated = record("a", b"a", expires=NOW + 50).rotated(b"b", 10.0, NOW).rotated(b"c", 100.0, NOW)
    keys, _ = merged(rotated)
    assert {digest: key.expires for digest, key in keys.items()} == {b"a": NOW + 10, b"b": NOW + 50, b"c": NOW + 50}
    assert {key.id for key in keys.values()} == {"a"}


def test_a_grace_that_is_over_is_the_end_of_an_earlier_secret() -> None:
    keys, _ = merged(record("a", b"a").rotated(b"b", 10.0, NOW - 10))
    assert {digest: key.expires for digest, key in keys.items()} == {b"a": NOW, b"b": None}


def test_revoked_keys_and_those_of_unknown_tenants_let_nobody_in() -> None:
    assert merged(record("a", b"a").revoke(NOW), record("b", b"b", tenant="gone")) == ({}, set())


def test_an_expired_key_stays_so_that_its_holder_is_told() -> None:
    keys, _ = merged(record("a", b"a", expires=NOW - 5))
    assert keys[b"a"].expires == NOW - 5


def test_the_yaml_wins_by_id_and_by_secret() -> None:
    same_id, same_secret = record("prod", b"other"), record("other", WRITTEN.digest)
    keys, shadowed = merged(same_id, same_secret)
    assert keys == {}
    assert shadowed == {("support", "prod"), ("support", "other")}


def test_an_earlier_secret_does_not_take_the_place_of_a_key_of_the_yaml() -> None:
    rotated = record("a", WRITTEN.digest).rotated(b"new", 10.0, NOW)
    keys, _ = merged(rotated)
    assert set(keys) == {b"new"}


def test_only_what_has_changed_is_made_anew() -> None:
    merger, records = Merger(), [record("a", b"a"), record("b", b"b")]
    first = merger.merge({}, TENANTS, records).by_digest
    second = merger.merge({}, TENANTS, [records[0], records[1].rotated(b"c", 0.0, NOW)]).by_digest
    assert set(second) == {b"a", b"c"}
    assert second[b"a"] is first[b"a"]
    tenants = {"support": replace(SUPPORT, weight=2.0)}
    third = merger.merge({}, tenants, records).by_digest
    assert {key.tenant.weight for key in third.values()} == {2.0}
