"""A key goes into a tenants file and nothing else changes, however the file is written."""

import textwrap

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.edit import EditError, insert_key, key_line
from gateway.config.keys import entry

DIGEST = "5e" * 32
ENTRY = entry("new", DIGEST)
LINE = key_line(ENTRY)


def insert(text):
    return insert_key(text, "support", ENTRY)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            """\
            tenants:
              support:
                keys:
                  - {id: prod, sha256: aa}   # the laptop

                  # of the cluster
                  - {id: ci,   sha256: bb}   # rotated in May
                # their models
                models: [chat-8b]            # and no more
              other: {}
            """,
            """\
            tenants:
              support:
                keys:
                  - {id: prod, sha256: aa}   # the laptop

                  # of the cluster
                  - {id: ci,   sha256: bb}   # rotated in May
                  - LINE
                # their models
                models: [chat-8b]            # and no more
              other: {}
            """,
            id="a list in a block",
        ),
        pytest.param(
            """\
            tenants:
              support:
                keys:
                - id: prod
                  sha256: aa  # a note
                tier: gold
            """,
            """\
            tenants:
              support:
                keys:
                - id: prod
                  sha256: aa  # a note
                - LINE
                tier: gold
            """,
            id="entries in blocks, not indented",
        ),
        pytest.param(
            """\
            tenants:
              support:
                keys: [{id: prod, sha256: aa}]  # all
                tier: gold
            """,
            """\
            tenants:
              support:
                keys: [{id: prod, sha256: aa}, LINE]  # all
                tier: gold
            """,
            id="a list in brackets",
        ),
        pytest.param(
            """\
            tenants:
              support:
                keys: [
                  {id: prod, sha256: aa},  # all
                ]
            """,
            """\
            tenants:
              support:
                keys: [
                  {id: prod, sha256: aa}, LINE,  # all
                ]
            """,
            id="brackets over several lines",
        ),
        pytest.param(
            "tenants: {other: {}, support: {keys: []}}\n",
            "tenants: {other: {}, support: {keys: [LINE]}}\n",
            id="an empty list",
        ),
        pytest.param(
            "tenants: {support: {tier: gold}}\n",
            "tenants: {support: {keys: [LINE], tier: gold}}\n",
            id="no list, in braces",
        ),
        pytest.param(
            "tenants: {support: {}}\n",
            "tenants: {support: {keys: [LINE]}}\n",
            id="empty braces",
        ),
        pytest.param(
            """\
            tenants:
              support:   # the team
                # first its tier
                tier: gold
            """,
            """\
            tenants:
              support:   # the team
                # first its tier
                keys:
                  - LINE
                tier: gold
            """,
            id="no list, in a block",
        ),
        pytest.param(
            """\
            tenants:
              support:   # the team
              other: {}
            """,
            """\
            tenants:
              support:   # the team
                keys:
                  - LINE
              other: {}
            """,
            id="nothing at all",
        ),
        pytest.param(
            """\
            tenants:
              support:
                keys:  # none yet
                tier: gold
            """,
            """\
            tenants:
              support:
                keys: [LINE]  # none yet
                tier: gold
            """,
            id="a list left blank",
        ),
        pytest.param(
            "tenants:\n  support:\n    keys:\n      - {id: é, sha256: aa}",
            "tenants:\n  support:\n    keys:\n      - {id: é, sha256: aa}\n      - LINE\n",
            id="no line break at the end",
        ),
        pytest.param(
            "tenants:\r\n  support:\r\n    keys:\r\n      - {id: a, sha256: aa}\r\n",
            "tenants:\r\n  support:\r\n    keys:\r\n      - {id: a, sha256: aa}\r\n      - LINE\r\n",
            id="lines of another system",
        ),
    ],
)
def test_one_line_goes_in_and_all_others_stay(before, after):
    assert insert(textwrap.dedent(before)) == textwrap.dedent(after).replace("LINE", LINE)


@pytest.mark.parametrize(
    "text",
    [
        "tenants:\n  other: {}\n",
        "models: {}\n",
        "",
        "tenants: [support]\n",
        "tenants:\n  support: 7\n",
        "tenants:\n  support: {keys: 7}\n",
        "tenants:\n  support: {keys: [\n",
        "tenants:\n  other: &x {tier: gold}\n  support: *x\n",  # it would change the other as well
        "tenants:\n  support: !!map {}\n  support: {}\n",
    ],
)
def test_what_cannot_be_edited_safely_is_left_alone(text):
    with pytest.raises(EditError, match="cannot be edited safely"):
        insert(text)


@pytest.mark.parametrize("name", ["no", "8", "1.5", "2026-11-01", "010"])
def test_names_that_look_like_something_else_are_quoted(name):
    text = insert_key(f'tenants:\n  "{name}": {{}}\n', name, entry(name, "1" * 64))
    [key] = yaml.safe_load(text)["tenants"][name]["keys"]
    assert key == {"id": name, "sha256": "1" * 64}


tenants = st.dictionaries(
    st.sampled_from(["support", "other", "third"]),
    st.fixed_dictionaries(
        {},
        optional={
            "keys": st.none()
            | st.lists(st.fixed_dictionaries({"id": st.sampled_from("abc"), "sha256": st.just("aa")}), max_size=3),
            "models": st.lists(st.sampled_from(["chat-8b", "a:b"]), max_size=2),
            "limits": st.none() | st.fixed_dictionaries({"rpm": st.integers(1, 9)}),
        },
    )
    | st.none(),
).filter(lambda made: "support" in made)


@given(made=tenants, flow=st.sampled_from([None, True, False]), indent=st.sampled_from([2, 4]))
def test_whatever_a_yaml_writer_wrote_is_edited_or_left_alone(made, flow, indent):
    text = yaml.safe_dump({"tenants": made}, default_flow_style=flow, indent=indent)
    edited = yaml.safe_load(insert(text))
    keys = edited["tenants"]["support"].pop("keys")
    assert keys == [*((made["support"] or {}).pop("keys", None) or []), {"id": "new", "sha256": DIGEST}]
    edited["tenants"]["support"] = edited["tenants"]["support"] or None
    made["support"] = made["support"] or None
    assert edited == {"tenants": made}
