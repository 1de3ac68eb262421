"""Keys in headers: who is recognised, and how little a refusal gives away."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Overloaded, Unauthenticated
from gateway.table import Key, Limits, Tenant
from gateway.tenancy import keys

TENANT = Tenant(name="support", models=None, limits=Limits(), budget=None, weight=1.0, tier="standard")
SECRET = "sk-tg-right-horse-battery-staple"
KEY = Key(id="prod", digest=hashlib.sha256(SECRET.encode()).digest(), tenant=TENANT)
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def let_in(*known, complete=True):
    return keys.Keys({key.digest: key for key in known}, {}, complete)


KEYS = let_in(KEY)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + SECRET.encode())],
        [(b"authorization", b"bearer " + SECRET.encode())],
        [(b"authorization", b"BEARER   " + SECRET.encode() + b" ")],
        [(b"x-api-key", SECRET.encode())],
        [(b"accept", b"*/*"), (b"x-api-key", SECRET.encode()), (b"host", b"example")],
        [(b"x-api-key", b"sk-other"), (b"authorization", b"Bearer " + SECRET.encode())],  # the bearer token decides
        [(b"authorization", b"Bearer "), (b"x-api-key", SECRET.encode())],  # an SDK configured with an empty key
        [(b"authorization", b"Basic dXNlcjpwYXNz"), (b"x-api-key", SECRET.encode())],  # a proxy's own credentials
    ],
)
def test_a_key_is_recognised_in_either_header(headers):
    assert keys.authenticate(headers, KEYS, NOW) is KEY


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"example")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Basic dXNlcjpwYXNz")],
        [(b"x-api-key", b"")],
    ],
)
def test_no_key_is_told_how_to_send_one(headers):
    with pytest.raises(Unauthenticated, match=r"You didn.t provide an API key\. .*Bearer YOUR_KEY") as caught:
        keys.authenticate(headers, KEYS, NOW)
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (401, "invalid_api_key", False)


def test_a_wrong_key_is_shown_masked():
    with pytest.raises(Unauthenticated, match=r"^Incorrect API key provided: sk-t\*\*\*aple\. The") as caught:
        keys.authenticate([(b"x-api-key", SECRET.encode())], let_in(), NOW)
    assert "horse" not in caught.value.message
    assert caught.value.code == "invalid_api_key"


@given(presented=st.binary(min_size=1, max_size=60).filter(lambda presented: presented.strip() != b""))
def test_a_refusal_never_repeats_the_key(presented):
    with pytest.raises(Unauthenticated) as caught:
        keys.authenticate([(b"x-api-key", presented)], KEYS, NOW)
    shown = caught.value.message.split(": ")[1].split(". The operator")[0]
    assert len(shown) <= 11
    assert shown == "***" or len(presented.strip()) >= 16
    assert shown.isascii()
    assert shown.isprintable()
    caught.value.body()


def test_the_digest_itself_is_no_key():
    with pytest.raises(Unauthenticated):
        keys.authenticate([(b"x-api-key", KEY.digest.hex().encode())], KEYS, NOW)


def test_a_key_filed_under_another_digest_is_refused():
    astray = Key(id="astray", digest=bytes(32), tenant=TENANT)
    with pytest.raises(Unauthenticated):
        keys.authenticate([(b"x-api-key", SECRET.encode())], keys.Keys({KEY.digest: astray}, {}), NOW)


def test_a_key_works_until_it_expires_and_its_holder_is_told_when_that_was():
    key = replace(KEY, expires=NOW)
    headers = [(b"x-api-key", SECRET.encode())]
    assert keys.authenticate(headers, let_in(key), NOW - 0.001) is key
    expected = r"\(`prod` of tenant `support`\) expired at 2027-01-15T08:00:00Z\. The operator"
    with pytest.raises(Unauthenticated, match=expected) as caught:
        keys.authenticate(headers, let_in(key), NOW)
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")


def test_a_use_is_noted_and_a_refusal_is_not():
    known = let_in(KEY, replace(KEY, digest=keys.digest("old"), expires=NOW))
    keys.authenticate([(b"x-api-key", SECRET.encode())], known, NOW)
    for refused in (b"old", b"wrong"):
        with pytest.raises(Unauthenticated):
            keys.authenticate([(b"x-api-key", refused)], known, NOW + 1)
    assert known.used == {("support", "prod"): NOW}


def test_while_keys_may_be_missing_nobody_is_told_that_a_key_is_wrong():
    known = let_in(KEY, complete=False)
    assert keys.authenticate([(b"x-api-key", SECRET.encode())], known, NOW) is KEY
    with pytest.raises(Overloaded, match="cannot be checked at the moment") as caught:
        keys.authenticate([(b"x-api-key", b"sk-made-at-run-time")], known, NOW)
    assert caught.value.retryable
    assert caught.value.retry_after
    with pytest.raises(Unauthenticated, match=r"You didn.t provide"):
        keys.authenticate([], known, NOW)


def test_minted_keys_are_recognised_and_differ():
    minted = keys.mint()
    assert minted.startswith("sk-tg-")
    assert minted != keys.mint()
    key = Key(id="new", digest=keys.digest(minted), tenant=TENANT)
    assert keys.authenticate([(b"authorization", f"Bearer {minted}".encode())], let_in(key), NOW) is key


def test_the_digest_is_the_sha256_of_the_text():
    assert keys.digest("password").hex() == "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"


def test_any_admin_key_opens_the_admin_api():
    digests = [keys.digest("first"), keys.digest(SECRET), keys.digest("last")]
    assert keys.authenticate_admin([(b"authorization", b"Bearer " + SECRET.encode())], digests) is None


@pytest.mark.parametrize("digests", [[], [keys.digest("another")]])
def test_others_are_refused_by_the_admin_api(digests):
    for headers in ([(b"authorization", b"Bearer " + SECRET.encode())], []):
        with pytest.raises(Unauthenticated, match="takes an admin key") as caught:
            keys.authenticate_admin(headers, digests)
        assert "keys create" not in caught.value.message, "that makes tenants' keys"
