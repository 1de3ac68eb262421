"""The text the demo models learn from: the source and the docstrings of the Python standard library.

Every machine that can run this has the text, so a rebuild downloads nothing. The order is fixed and the held-out
modules are named: the same Python version always gives the same corpus.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import itertools
import math
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

# Test suites, vendored code and generated tables teach a small model nothing it could use.
SKIPPED_PACKAGES = frozenset(
    "config-3 ensurepip idlelib lib2to3 msilib pydoc_data site-packages test tests tkinter turtledemo".split()
)
# Modules few people ask about, kept out of training altogether: perplexity is measured on them.
HELD_OUT = frozenset(
    "asynchat asyncio.staggered bdb cgitb codeop email.headerregistry importlib.util mailcap modulefinder nntplib "
    "optparse plistlib pstats pyclbr quopri rlcompleter sndhdr sunau symtable tabnanny telnetlib trace wave webbrowser "
    "xdrlib xmlrpc.client zipapp".split()
)
LONGEST_SUMMARY = 200
LONGEST_SOURCE = 480
BUILTIN_TYPES = (str, list, dict, set, tuple, int, float, bytes)
C_MODULES: tuple[ModuleType, ...] = (math, itertools, functools)

SIGNATURE = re.compile(r"[\w.]+\(.*\)( -+>.*)?$")
PUBLIC_NAMES = {"posixpath": "os.path"}  # where users find what is defined elsewhere

Kind = Literal["module", "class", "function"]


@dataclass(frozen=True, slots=True)
class Source:
    """One module of the standard library."""

    module: str
    text: str

    @property
    def is_held_out(self) -> bool:
        return self.module in HELD_OUT


@dataclass(frozen=True, slots=True)
class Documented:
    """A public name with the first sentence or two of its documentation; `source` is None unless it is short."""

    name: str
    kind: Kind
    summary: str
    signature: str | None = None
    source: str | None = None

    @property
    def module(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def short_name(self) -> str:
        return self.name.rpartition(".")[2]


def standard_library_sources(root: Path | None = None) -> list[Source]:
    """Every module worth reading, in a fixed order."""
    root = root or Path(sysconfig.get_path("stdlib"))
    found: list[Source] = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if any(part.startswith(skipped) for part in parts for skipped in SKIPPED_PACKAGES):
            continue
        if parts[0] == "encodings" and len(parts) > 1 and parts[1] != "__init__":
            continue
        module = ".".join(parts).removesuffix(".__init__")
        found.append(Source(PUBLIC_NAMES.get(module, module), path.read_text(encoding="utf-8", errors="replace")))
    return found


def documented_names(source: Source) -> Iterator[Documented]:
    """The module itself and its top-level functions and classes, where they are public and documented."""
    if any(part.startswith("_") for part in source.module.split(".")):
        return
    try:
        tree = ast.parse(source.text)
    except SyntaxError:
        return
    if summary := summarise(ast.get_docstring(tree)):
        yield Documented(source.module, "module", summary)
    lines = source.text.split("\n")
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        summary = summarise(ast.get_docstring(node))
        if not summary:
            continue
        text = source_of(node, lines)
        is_class = isinstance(node, ast.ClassDef)
        yield Documented(
            f"{source.module}.{node.name}",
            "class" if is_class else "function",
            summary,
            signature=signature_of(node),
            source=None if is_class or len(text) > LONGEST_SOURCE else text,
        )


def builtin_names() -> Iterator[Documented]:
    """What has no Python source to parse: the built-in functions, the methods of built-in types, some C modules."""
    for name, value in sorted(vars(builtins).items()):
        if not name.startswith("_") and callable(value) and (summary := summarise(inspect.getdoc(value))):
            yield Documented(name, "class" if isinstance(value, type) else "function", summary)
    for kind in BUILTIN_TYPES:
        for name, value in sorted(vars(kind).items()):
            if not name.startswith("_") and callable(value) and (summary := summarise(inspect.getdoc(value))):
                yield Documented(f"{kind.__name__}.{name}", "function", summary)
    for module in C_MODULES:
        if summary := summarise(module.__doc__):
            yield Documented(module.__name__, "module", summary)
        for name, value in sorted(vars(module).items()):
            if name.startswith("_") or not callable(value) or getattr(value, "__module__", None) != module.__name__:
                continue
            if summary := summarise(inspect.getdoc(value)):
                yield Documented(f"{module.__name__}.{name}", "function", summary)


def summarise(docstring: str | None) -> str | None:
    """The first paragraph on one line, or as many of its first sentences as fit; None when nothing fits.

    A paragraph that only repeats the signature (`S.endswith(suffix) -> bool`) is passed over.
    """
    paragraphs = [" ".join(part.split()) for part in (docstring or "").strip().split("\n\n")]
    paragraph = next((part for part in paragraphs if not SIGNATURE.match(part)), "")
    if len(paragraph) > LONGEST_SUMMARY:
        paragraph, stop, _ = paragraph[:LONGEST_SUMMARY].rpartition(". ")
        paragraph += stop.strip()
    return paragraph if len(paragraph) >= 12 else None


def source_of(node: ast.stmt, lines: Sequence[str]) -> str:
    """ast.get_source_segment splits the whole file again for each node, which takes minutes over the library."""
    *body, last = lines[node.lineno - 1 : node.end_lineno]
    return "\n".join([*body, last.encode()[: node.end_col_offset].decode()])


def signature_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    """The line a reader would recognise it by: `def dedent(text):`."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{keyword} {node.name}({ast.unparse(node.args)}):"
