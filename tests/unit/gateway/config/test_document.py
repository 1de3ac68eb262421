"""The YAML of one file: values keep their lines, nothing readers disagree on is guessed, nothing is unbounded."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.document import (
    LOADER,
    MAX_DEPTH,
    MAX_NODES,
    DocumentError,
    Node,
    quoted,
    read_document,
    resolve_plain,
)


def plain(node: Node):
    if node.entries is not None:
        return {key: plain(value) for key, (_, value) in node.entries.items()}
    if node.items is not None:
        return [plain(item) for item in node.items]
    return node.scalar


def test_values_and_their_lines():
    document = read_document("a: 1\n\n# note\nb:\n  - x\n  - {c: true, d: ~}\n")
    assert plain(document.root) == {"a": 1, "b": ["x", {"c": True, "d": None}]}
    assert document.troubles == []
    entries = document.root.entries
    assert entries is not None
    assert [line for line, _ in entries.values()] == [1, 4]
    items = entries["b"][1].items
    assert items is not None
    assert [item.line for item in items] == [5, 6]


@pytest.mark.parametrize("text", ["", "# only a note\n", "---\n", "\n\n"])
def test_an_empty_file_says_nothing(text):
    assert read_document(text).root.scalar is None


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("1_000", 1000),
        ("1_", 1),
        ("1__0", 10),
        ("1.50", 1.5),
        (".5", 0.5),
        ("1.5e+3", 1500.0),
        ("1e-06", 1e-6),  # as JSON writes it
        ("true", True),
        ("False", False),
        ("null", None),
        ("10m", "10m"),
        ("10%", "10%"),
        ("chat-8b:support", "chat-8b:support"),
        ("http://a:1", "http://a:1"),
        ("y", "y"),
    ],
)
def test_words_without_quotes(word, value):
    document = read_document(f"a: {word}\n")
    assert plain(document.root) == {"a": value}
    assert type(plain(document.root)["a"]) is type(value)
    assert document.troubles == []


DISPUTED = ["no", "Yes", "ON", "off", "010", "0x1F", "0o17", "1:30", "2026-11-01", "1" * 30, "12e4567"]


@pytest.mark.parametrize("word", DISPUTED)
@pytest.mark.parametrize("place", ["a: {}", "{}: a", "- {}"])
def test_what_readers_disagree_on_is_told_and_quoting_it_helps(word, place):
    [trouble] = read_document(f"\n{place.format(word)}\n").troubles
    assert trouble.line == 2
    assert f'"{word}"' in trouble.remedy
    assert read_document(place.format(f'"{word}"')).troubles == []


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True))
def test_a_name_written_with_its_quotes_is_that_name_to_every_reader(name):
    text = f"a: {quoted(name)}\n"
    assert yaml.safe_load(text) == {"a": name}
    document = read_document(text)
    assert plain(document.root) == {"a": name}
    assert document.troubles == []


@given(st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_numbers_are_read_as_they_are_written(number):
    assert resolve_plain(repr(number)) == number


@pytest.mark.parametrize("text", ["a: &x [1, {b: 'c'}]\nd: *x\n", "a: b: c\n", "a:\n\t- b\n", "a: [1,\n  2\nb: 1\n"])
def test_the_parser_without_libyaml_reads_the_same(text):
    def read(loader):
        try:
            return read_document(text, loader)
        except DocumentError as error:
            return error.trouble.remedy

    assert read(yaml.SafeLoader) == read(LOADER)


def test_a_key_twice_is_told_with_both_lines_and_the_first_is_kept():
    document = read_document("a: 1\nb: 2\na: 3\n")
    [trouble] = document.troubles
    assert trouble.line == 3
    assert "line 1" in trouble.wrong
    assert plain(document.root) == {"a": 1, "b": 2}


@pytest.mark.parametrize("key", ["8", "1.5", "true", "~"])
def test_a_key_that_is_not_text_is_told(key):
    [trouble] = read_document(f"{key}: x\n").troubles
    assert f'"{key}":' in trouble.remedy


def test_an_alias_repeats_a_value():
    document = read_document("a: &x {b: [1, 2]}\nc: *x\n")
    assert plain(document.root) == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "line", "wrong"),
    [
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("a: [1, 2\n", 1, "not YAML"),
        ("a: [1,\n  2\nb: 1\n", 3, "begins in line 1"),
        ("a:\n\t- b\n", 2, "not YAML"),
        ('a: "x\n', 1, "not YAML"),
        ('a: "x\n\nb: 1\n', 3, "begins in line 1"),
        ("a: {b: ${env:X}}\n", 1, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: &x [*x]\n", 1, "`*x`"),
        ("a: *x\n", 1, "`*x`"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "tag"),
        ("a: !!str 8\n", 1, "tag"),
        ("a: {b: 1}\nc:\n  <<: {b: 1}\n", 3, "merge"),
        ("? [a]\n: b\n", 1, "key"),
        ("ok: 1\na: \x07\n", 2, "cannot stand in YAML"),
        ('a: 1\nb: "\\x00"\n', 2, "holds '\\x00'"),
        ('a: "\\ud800"\n', 1, ""),
        ("a: " + "[" * 30 + "]" * 30 + "\n", 1, "deep"),
        ("a: " + "[" * 100_000, 1, "deep"),
        ("a: " + "{a: " * 100_000, 1, "deep"),
        ("- " * 100_000, 1, "deep"),
        ("- a\n" * (MAX_NODES + 1), MAX_NODES, "values"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text, line, wrong):
    with pytest.raises(DocumentError) as caught:
        read_document(text)
    trouble = caught.value.trouble
    assert trouble.line == line
    assert wrong in trouble.wrong
    assert trouble.remedy


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("a:\n\t- b\n", "spaces, not tabs"),
        ("a: {b: ${env:X}}\n", '"${env:NAME}"'),
        ("a: b: c\n", "quote a value that holds a colon"),
    ],
)
def test_common_slips_have_their_own_remedy(text, remedy):
    with pytest.raises(DocumentError) as caught:
        read_document(text)
    assert remedy in caught.value.trouble.remedy


def test_depth_up_to_the_bound_is_read():
    text = "a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert read_document(text).troubles == []


@given(st.text(alphabet=st.sampled_from(list("ab:-{}[]&*!|>'\"#%@,? \n\t0~<\\\x00\ud800é"))))
def test_no_text_breaks_the_reader(text):
    try:
        troubles = read_document(text).troubles
    except DocumentError as error:
        troubles = [error.trouble]
    for trouble in troubles:
        assert 1 <= trouble.line <= text.count("\n") + 1
        assert trouble.wrong
        assert trouble.remedy


# Without words such as 1e3: JSON means a number by them, so the reader does, and PyYAML writes such text unquoted.
EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+", re.ASCII)
words = st.text(st.characters(exclude_categories=["C"]), min_size=1).filter(lambda word: not EXPONENT.fullmatch(word))
nested = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | words | st.just(""),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(words, nested, max_size=5))
def test_what_a_yaml_writer_wrote_is_read(value):
    text = yaml.safe_dump(value, allow_unicode=False)
    document = read_document(text)
    if not document.troubles:  # PyYAML writes some words without quotes that others read otherwise
        assert plain(document.root) == value
