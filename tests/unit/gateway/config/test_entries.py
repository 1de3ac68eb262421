"""An entry goes into a file of the configuration and nothing else changes, however the file is written."""

import textwrap

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.document import read_document
from gateway.config.edit import EditError
from gateway.config.entries import put

PATH = ("models", "scribe", "versions", "int8")
ENTRY = {"artifact": "new", "quality": 0.5}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            """\
            # what is served
            models:
              scribe:
                context: 2048
                versions:   # best first
                  fp8:  {artifact: old, quality: 0.998}   # on Ada

                  int8: {artifact: old, quantization: w8a8, quality: 0.999}   # everywhere
                  # int4 is on its way
                adapters: {}
            aliases: {gpt-4o: scribe}   # for clients
            """,
            """\
            # what is served
            models:
              scribe:
                context: 2048
                versions:   # best first
                  fp8:  {artifact: old, quality: 0.998}   # on Ada

                  int8: {artifact: new, quantization: w8a8, quality: 0.5}   # everywhere
                  # int4 is on its way
                adapters: {}
            aliases: {gpt-4o: scribe}   # for clients
            """,
            id="what differs is replaced where it stands",
        ),
        pytest.param(
            """\
            models:
              scribe:
                versions:
                    fp8: {artifact: old}   # on Ada

                # of the teams
                adapters: {}
              other: {}
            """,
            """\
            models:
              scribe:
                versions:
                    fp8: {artifact: old}   # on Ada
                    int8: {artifact: new, quality: 0.5}

                # of the teams
                adapters: {}
              other: {}
            """,
            id="a new one stands below the last",
        ),
        pytest.param(
            """\
            models:
              scribe:
                versions:
                  int8:
                    # where it lies
                    artifact: old   # for now
                    quantization: w8a8
                context: 2048
            """,
            """\
            models:
              scribe:
                versions:
                  int8:
                    # where it lies
                    artifact: new   # for now
                    quantization: w8a8
                    quality: 0.5
                context: 2048
            """,
            id="an entry in lines of its own",
        ),
        pytest.param(
            "models: {scribe: {context: 1, versions: {fp8: {}}}}   # short\n",
            "models: {scribe: {context: 1, versions: {fp8: {}, int8: {artifact: new, quality: 0.5}}}}   # short\n",
            id="all in braces",
        ),
        pytest.param(
            "models: {scribe: {versions: {}, context: 1}}\n",
            "models: {scribe: {versions: {int8: {artifact: new, quality: 0.5}}, context: 1}}\n",
            id="empty braces",
        ),
        pytest.param(
            """\
            models: {
              scribe: {
                versions: {
                  int8: {artifact: old},   # the one
                },
              },
            }
            """,
            """\
            models: {
              scribe: {
                versions: {
                  int8: {artifact: new, quality: 0.5},   # the one
                },
              },
            }
            """,
            id="braces over several lines",
        ),
        pytest.param(
            "models:\n  scribe:\n    versions:   # none yet\n    context: 1\n",
            "models:\n  scribe:\n    versions:   # none yet\n"
            "      int8: {artifact: new, quality: 0.5}\n    context: 1\n",
            id="nothing below a key",
        ),
        pytest.param(
            "models:\n  scribe:\n    versions: null   # none yet\n",
            "models:\n  scribe:\n    versions: {int8: {artifact: new, quality: 0.5}}   # none yet\n",
            id="null",
        ),
        pytest.param(
            "models:\n  scribe: {versions: {int8: }}\n",
            "models:\n  scribe: {versions: {int8: {artifact: new, quality: 0.5} }}\n",
            id="nothing, in braces",
        ),
        pytest.param(
            "models:\n  other: {}\n",
            "models:\n  other: {}\n  scribe:\n    versions:\n      int8: {artifact: new, quality: 0.5}\n",
            id="a model that is not there",
        ),
        pytest.param(
            "# nothing yet",
            "# nothing yet\nmodels:\n  scribe:\n    versions:\n      int8: {artifact: new, quality: 0.5}\n",
            id="only comments",
        ),
        pytest.param(
            "",
            "models:\n  scribe:\n    versions:\n      int8: {artifact: new, quality: 0.5}\n",
            id="an empty file",
        ),
        pytest.param(
            "aliases: {a: b}",
            "aliases: {a: b}\nmodels:\n  scribe:\n    versions:\n      int8: {artifact: new, quality: 0.5}\n",
            id="no line break at the end",
        ),
        pytest.param(
            "models:\r\n  scribe:\r\n    versions:\r\n      é: {}\r\n    context: 1\r\n",
            "models:\r\n  scribe:\r\n    versions:\r\n      é: {}\r\n"
            "      int8: {artifact: new, quality: 0.5}\r\n    context: 1\r\n",
            id="lines of another system, other letters",
        ),
        pytest.param(
            "models:\n  scribe:\n    versions:\n      fp8: &x {artifact: old}\n      int8: *x   # as that\n",
            "models:\n  scribe:\n    versions:\n      fp8: &x {artifact: old}\n"
            "      int8: {artifact: new, quality: 0.5}   # as that\n",
            id="what another stands for gets a text of its own",
        ),
        pytest.param(
            "models:\n  scribe:\n    versions:\n      int8: &x {artifact: &a old}\n      fp8: {quantization: fp8}\n",
            "models:\n  scribe:\n    versions:\n      int8: &x {artifact: new, quality: 0.5}\n"
            "      fp8: {quantization: fp8}\n",
            id="an anchor that nothing refers to",
        ),
        pytest.param(
            "models:\n  scribe:\n    versions:\n      int8:\n        note: |\n          two\n\n          lines\n",
            "models:\n  scribe:\n    versions:\n      int8:\n        note: |\n          two\n\n          lines\n"
            "        artifact: new\n        quality: 0.5\n",
            id="below a text of several lines",
        ),
    ],
)
def test_only_what_must_change_changes(before, after):
    assert put(textwrap.dedent(before), PATH, ENTRY) == textwrap.dedent(after)


def test_what_is_as_it_should_be_stays_to_the_letter():
    text = "models: {scribe: {versions: {int8: {'artifact' : \"new\", quality: 5e-1}}}}"
    assert put(text, PATH, ENTRY) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{quality: 0.1, artifact: new}", "{artifact: new}"),
        ("{artifact: new, quality: 0.1}", "{artifact: new}"),
        ("{artifact: new, quality: 0.1, }", "{artifact: new, }"),
        ("{artifact: new, quality: , other: 1}", "{artifact: new , other: 1}"),
        (
            "\n  artifact: new\n  quality: 0.1  # measured\n  # next\n  other: 1",
            "\n  artifact: new\n  # next\n  other: 1",
        ),
        ("\n  quality:\n  artifact: new", "\n  artifact: new"),
        ("\n  artifact: new\n  quality: 0.1", "\n  artifact: new\n"),
    ],
)
def test_what_is_no_longer_known_goes(before, after):
    assert put(f"v: {before}", ("v",), {"artifact": "new", "quality": None}) == f"v: {after}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{requires: {memory_gb: 1, driver: '1'}}", "{requires: {memory_gb: 2, cpu_flags: [avx2]}}"),
        ("{requires: {}}", "{requires: {memory_gb: 2, cpu_flags: [avx2]}}"),
        (
            "\n  requires:\n    # all\n    memory_gb: 1 # GB",
            "\n  requires:\n    # all\n    memory_gb: 2 # GB\n    cpu_flags: [avx2]\n",
        ),
    ],
)
def test_what_is_inside_an_entry_is_changed_there(before, after):
    requires = {"memory_gb": 2, "cpu_flags": ["avx2"]}
    assert put(f"v: {before}", ("v",), {"requires": requires}) == f"v: {after}"


@pytest.mark.parametrize(
    "text",
    [
        "models: []\n",
        "models:\n  scribe: 7\n",
        "models: {scribe: {versions: {int8: [1]}}}\n",
        "models: {scribe: {versions: {\n",
        "models: {scribe: {}}\n---\nmodels: {}\n",
        "models: {scribe: {}, scribe: {}}\n",
        "models: {scribe: &x {versions: {}}, other: *x}\n",  # it would change the other as well
        "models: {scribe: {versions: {int8: {artifact: &a old}, fp8: {artifact: *a}}}}\n",
        "models: {scribe: !!map {}}\n",
        "models: {no: {}}\n",
        "\x00",
    ],
)
def test_what_cannot_be_edited_safely_is_left_alone(text):
    with pytest.raises(EditError):
        put(text, PATH, ENTRY)


@pytest.mark.parametrize("name", ["no", "8", "1.5", "2026-11-01", "010"])
def test_names_that_look_like_something_else_are_quoted(name):
    text = put("models: {}\n", ("models", name, "versions", name), {"artifact": name})
    assert yaml.safe_load(text) == {"models": {name: {"versions": {name: {"artifact": name}}}}}


@pytest.mark.parametrize(
    "path", ["a b", "é", "😀", "#x", "a: b", "[x", "'", '"', "\\", "*a", "a\u2028b", " x", "-", "\t"]
)
def test_any_path_is_written_so_that_it_reads_as_itself_or_is_refused(path):
    try:
        text = put("v: {}\n", ("v",), {"artifact": path})
    except EditError:
        assert path == "a\u2028b"
    else:
        assert plain(read_document(text).root) == {"v": {"artifact": path}}


def plain(node):
    if node.entries is not None:
        return {key: plain(value) for key, (_, value) in node.entries.items()}
    return node.scalar if node.items is None else [plain(item) for item in node.items]


scalars = st.sampled_from([None, 1, 0.5, "x", "a b", "é", "no"])
versions = st.dictionaries(
    st.sampled_from(["int8", "fp8", "üñ"]),
    st.none()
    | st.dictionaries(
        st.sampled_from(["artifact", "quality", "note"]),
        scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from("ab"), scalars, max_size=2),
        max_size=3,
    ),
    max_size=3,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "aliases": st.just({"a": "b"}),
        "models": st.dictionaries(
            st.sampled_from(["scribe", "other"]),
            st.none() | st.fixed_dictionaries({}, optional={"versions": st.none() | versions, "context": st.just(1)}),
            max_size=2,
        ),
    },
)


def commented(text, at):
    """Remarks behind some of the lines, and lines with nothing else."""
    lines = text.splitlines(keepends=False)
    for index in at:
        lines[index % len(lines)] += "  # é {[*&"
    return "\n# first\n\n".join(("", "\n".join(lines))) + "\n"


@given(
    made=documents,
    flow=st.sampled_from([None, True, False]),
    indent=st.sampled_from([2, 4]),
    width=st.sampled_from([20, 200]),
    remarks=st.lists(st.integers(0, 30), max_size=3),
    crlf=st.booleans(),
    value=st.sampled_from([0.5, None]),
)
def test_whatever_a_yaml_writer_wrote_is_edited_as_meant(made, flow, indent, width, remarks, crlf, value):
    text = yaml.safe_dump(
        made, default_flow_style=flow, indent=indent, width=width, allow_unicode=True, sort_keys=False
    )
    text = commented(text, remarks)
    text = text.replace("\n", "\r\n") if crlf else text
    before = plain(read_document(text).root)
    if before != made and made:  # a remark fell into a text of several lines
        return
    edited = put(text, PATH, {"artifact": "new", "quality": value})
    after = plain(read_document(edited).root)
    entry = after["models"]["scribe"]["versions"].pop("int8")
    old = (((made.get("models") or {}).get("scribe") or {}).get("versions") or {}).pop("int8", None) or {}
    assert entry == {
        key: kept
        for key, kept in (old | {"artifact": "new", "quality": value}).items()
        if key not in ("quality",) or value
    }
    assert without_blanks(after) == without_blanks(made)
    assert edited.count("\r\n") == (edited.count("\n") if crlf else 0)
    assert edited.count("# é {[*&") == text.count("# é {[*&") or value is None


def without_blanks(data):
    """Mappings on the way are made where they were blank."""
    if not isinstance(data, dict):
        return data
    return {key: below for key, value in data.items() if (below := without_blanks(value)) not in (None, {})}
