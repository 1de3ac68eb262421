"""Compiles the data plane ahead of time where a C compiler is there (gateway/decisions/0012-ahead-of-time.md).

The same sources run either way. `TOLLGATE_PURE=1` leaves the compiler out.
"""

from __future__ import annotations

import ast
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

# What runs for every request or for every read of a stream.
COMPILED = (
    "gateway/*.py",
    "gateway/cache/entry.py",
    "gateway/cache/flight.py",
    "gateway/cache/key.py",
    "gateway/downstream/*.py",
    "gateway/engines/*.py",
    "gateway/explain/ring.py",
    "gateway/fleet/backend.py",
    "gateway/fleet/room.py",
    "gateway/ledger/pricing.py",
    "gateway/ledger/journal/format.py",
    "gateway/ledger/journal/owner.py",
    "gateway/ledger/journal/reader.py",
    "gateway/ledger/journal/writer.py",
    "gateway/ledger/record.py",
    "gateway/ledger/rollup.py",
    "gateway/ledger/writer.py",
    "gateway/protocol/*.py",
    "gateway/routing/*.py",
    "gateway/settler/settler.py",
    "gateway/settler/source.py",
    "gateway/tenancy/*.py",
    "gateway/upstream/*.py",
)
INTERPRETED = {
    "gateway/app.py": "runs once",
    "gateway/books_host.py": "runs in the parent, which does little",
    "gateway/child.py": "runs once",
    "gateway/compiled.py": "runs once",
    "gateway/downstream/server.py": "runs once for a connection",
    "gateway/engines/dialect.py": "mypyc takes no runtime_checkable protocol",
    "gateway/described.py": "runs when somebody asks",
    "gateway/errors.py": "an exception's attributes with a value in its class are left unset by mypyc",
    "gateway/listening.py": "runs once",
    "gateway/loghandler.py": "derives from the standard library's handler",
    "gateway/processes.py": "runs once",
    "gateway/readings.py": "runs when metrics are collected",
    "gateway/reconciling.py": "runs every few seconds",
    "gateway/protocol/multipart.py": "mypyc fails on a slice of bytes that ends before it begins; and it is rare",
    "gateway/spans.py": "its library is optional",
    "gateway/stopping.py": "runs once",
    "gateway/up.py": "runs once",
    "gateway/welcome.py": "runs once",
}
OPTIONS = (
    "--config-file=",
    "--no-site-packages",  # the result depends on these sources alone
    "--ignore-missing-imports",
    "--follow-imports=silent",
    "--warn-unreachable",  # what mypy holds for unreachable is not compiled
    "--disable-error-code=has-type",
    "--disable-error-code=func-returns-value",
)
# A compiled module reaches the others of its group, and the interpreter, directly and not by tables of its own.
DIRECT = ("-fvisibility=hidden", "-fno-plt")


def modules(root: Path) -> list[str]:
    """Paths of what is compiled, relative to the root of the checkout."""
    found = {path.relative_to(root).as_posix() for pattern in COMPILED for path in root.glob(pattern)}
    if gone := INTERPRETED.keys() - found:
        raise ValueError(f"INTERPRETED names what is not there: {', '.join(sorted(gone))}")
    return sorted(path for path in found - INTERPRETED.keys() if not path.endswith("/__init__.py"))


def derived_from_interpreted(root: Path, paths: list[str]) -> list[str]:
    """Classes that mypyc compiles without a word and that crash the process later: it does not know their base."""
    trees = {path: ast.parse((root / path).read_text()) for path in paths}
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    classes = [(path, node) for path, node in nodes if isinstance(node, ast.ClassDef)]
    sound = {"NamedTuple", "Protocol", "Exception", *(node.name for _, node in classes)}
    return [f"{path}: {node.name}" for path, node in classes if {ast.unparse(base) for base in node.bases} - sound]


def extensions(root: Path) -> list[Extension]:
    wanted = {"build_ext", "bdist_wheel"} & set(sys.argv)  # not for metadata, nor beside what is being edited
    if os.environ.get("TOLLGATE_PURE", "0") != "0" or not wanted:
        return []
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    header = Path(sysconfig.get_path("include"), "Python.h")
    if missing := ([] if shutil.which(compiler) else [compiler]) + ([] if header.exists() else [str(header)]):
        print(f"Not compiled, for want of {' and '.join(missing)}: plain Python takes more CPU per request", flush=True)
        return []
    from mypyc.build import mypycify

    paths = modules(root)
    if unsound := derived_from_interpreted(root, paths):
        raise ValueError(f"a compiled class must not derive from an interpreted one: {', '.join(unsound)}")
    built = mypycify([*OPTIONS, *paths], opt_level="2", debug_level="0", multi_file=True, group_name="tollgate")
    for extension in built:  # another compiler's new warning is no reason not to build
        kept = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
        extension.extra_compile_args = [*kept, *DIRECT]
    return built


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    try:
        setup(ext_modules=extensions(here))
    except ValueError as error:
        sys.exit(f"setup.py: {error}")
