"""Keys as they are written: found again by their place, and written so that they are read as what was meant."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.draft import draft
from gateway.config.edit import insert_key, key_line
from gateway.config.keys import entry, key_ids, key_place
from gateway.config.source import read


@pytest.fixture
def drafted(tmp_path):
    def make(text):
        (tmp_path / "tenants.yaml").write_text(text)
        return draft(read(tmp_path, {}))

    return make


def test_a_key_is_found_where_it_is_written_even_in_a_tenant_with_mistakes(drafted, tmp_path):
    known = drafted(
        "tenants:\n  a:\n    colour: red\n    keys:\n      - {id: x, sha256: bad}\n      - id: y\n  b: {}\n"
    )
    assert key_ids(known, "a") == ["x", "y"]
    assert [str(key_place(known, "a", key_id)) for key_id in ("x", "y")] == [
        f"{tmp_path}/tenants.yaml:5",
        f"{tmp_path}/tenants.yaml:6",
    ]
    assert key_place(known, "a", "z") is None


@pytest.mark.parametrize(
    "text", ["", "tenants:\n", "tenants: {a: }\n", "tenants: {a: {keys: {id: x}}}\n", "tenants: []\n"]
)
def test_where_there_are_no_keys_none_is_found(drafted, text):
    known = drafted(text)
    assert key_ids(known, "a") == []
    assert key_place(known, "a", "x") is None


words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,12}", fullmatch=True)
entries = st.builds(
    entry,
    words,
    st.just("5e" * 32),
    models=st.none() | st.lists(words, max_size=3),
    endpoints=st.none() | st.lists(st.sampled_from(["chat.completions", "score"]), max_size=2),
    expires=st.none() | st.just("2027-01-31T00:00:00Z"),
    limits=st.none() | st.dictionaries(st.sampled_from(["rpm", "tpm"]), st.integers(1, 10**9)),
    priority=st.sampled_from([None, "batch"]),
)


@given(entries)
def test_an_entry_is_read_as_it_was_meant(made):
    assert yaml.safe_load(key_line(made)) == made
    text = insert_key("tenants: {support: {}}\n", "support", made)
    assert yaml.safe_load(text)["tenants"]["support"]["keys"] == [made]
