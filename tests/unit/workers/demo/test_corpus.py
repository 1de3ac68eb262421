from __future__ import annotations

from pathlib import Path

import pytest

from workers.demo.corpus import (
    HELD_OUT,
    LONGEST_SUMMARY,
    Source,
    builtin_names,
    documented_names,
    standard_library_sources,
    summarise,
)

MODULE = '''\
"""Tools for things.

More about them.
"""

class Thing(Base, Other):
    """A thing with a name."""

class _Hidden:
    """Nobody asks for this."""

async def fetch(name, *, timeout=None):
    """Fetch the thing called name."""
    return name

def undocumented():
    pass
'''


def test_the_standard_library_is_read_in_a_fixed_order_without_tests() -> None:
    sources = standard_library_sources()

    modules = [source.module for source in sources]
    assert modules == [source.module for source in standard_library_sources()]
    assert {"json", "json.decoder", "textwrap", "os.path"} <= set(modules)
    assert not any("test" in module.split(".") for module in modules)
    assert any(source.is_held_out for source in sources)
    assert not {"os", "json", "textwrap", "threading"} & HELD_OUT


def test_another_root_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("a = 1\n")
    (tmp_path / "package" / "part.py").write_text("b = 2\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "test_a.py").write_text("")

    assert standard_library_sources(tmp_path) == [Source("package", "a = 1\n"), Source("package.part", "b = 2\n")]


def test_public_documented_names_are_found() -> None:
    module, thing, fetch = documented_names(Source("things", MODULE))

    assert (module.name, module.kind, module.summary) == ("things", "module", "Tools for things.")
    assert (thing.name, thing.signature) == ("things.Thing", "class Thing(Base, Other):")
    assert (fetch.name, fetch.signature) == ("things.fetch", "async def fetch(name, *, timeout=None):")
    assert (fetch.module, fetch.short_name) == ("things", "fetch")
    assert fetch.source is not None
    assert fetch.source.startswith("async def fetch")


@pytest.mark.parametrize("source", [Source("_private", MODULE), Source("broken", "def (")])
def test_private_and_broken_modules_have_no_names(source: Source) -> None:
    assert list(documented_names(source)) == []


def test_builtins_are_documented_too() -> None:
    names = {item.name: item for item in builtin_names()}

    assert names["len"].summary == "Return the number of items in a container."
    assert names["math.sqrt"].summary == "Return the square root of x."
    assert {"str.split", "dict.get", "itertools", "itertools.chain"} <= names.keys()


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [
        (None, None),
        ("Short.", None),
        ("Return the\n    thing.\n\nMore.", "Return the thing."),
        ("S.endswith(suffix) -> bool\n\nReturn True if it does.", "Return True if it does."),
        ("One sentence. " + "word " * 60, "One sentence."),
        ("word " * 60, None),
    ],
)
def test_a_summary_is_the_first_paragraph_that_fits(docstring: str | None, summary: str | None) -> None:
    found = summarise(docstring)

    assert found == summary
    assert len(found or "") <= LONGEST_SUMMARY
