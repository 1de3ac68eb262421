"""Compiles the data plane ahead of time where a C compiler is there (gateway/decisions/0012-ahead-of-time.md).

The same sources run either way. `TOLLGATE_PURE=1` leaves the compiler out.
"""

from __future__ import annotations

import os
import shutil
import sys
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
    "gateway/fleet/backend.py",
    "gateway/fleet/room.py",
    "gateway/ledger/pricing.py",
    "gateway/ledger/record.py",
    "gateway/ledger/writer.py",
    "gateway/protocol/*.py",
    "gateway/routing/*.py",
    "gateway/tenancy/*.py",
    "gateway/upstream/*.py",
)
INTERPRETED = {
    "gateway/app.py": "runs once",
    "gateway/downstream/connection.py": "derives from uvicorn's",
    "gateway/loghandler.py": "derives from the standard library's",
    "gateway/processes.py": "runs once",
    "gateway/spans.py": "its library is optional",
    "gateway/up.py": "runs once",
    "gateway/welcome.py": "runs once",
    "gateway/errors.py": "mypyc leaves out what a class says for its instances where the base is an exception",
    "gateway/engines/dialect.py": "mypyc takes no runtime_checkable protocol",
    "gateway/protocol/multipart.py": "mypyc fails on a slice of bytes that ends before it begins; and it is rare",
}


def modules() -> list[str]:
    found = {path.as_posix() for pattern in COMPILED for path in Path().glob(pattern) if path.name != "__init__.py"}
    if gone := INTERPRETED.keys() - found:
        sys.exit(f"setup.py: INTERPRETED names what is not there: {', '.join(sorted(gone))}")
    return sorted(found - INTERPRETED.keys())


def extensions() -> list[Extension]:
    compiler = os.environ.get("CC", "cc").split()[0]
    if os.environ.get("TOLLGATE_PURE", "0") != "0":
        return []
    if shutil.which(compiler) is None:
        print(f"setup.py: no C compiler ({compiler}): the gateway stays plain Python, which costs more CPU", flush=True)
        return []
    from mypyc.build import mypycify

    options = ["--config-file=", "--no-site-packages", "--ignore-missing-imports", "--follow-imports=silent"]
    options += ["--disable-error-code=has-type", "--disable-error-code=func-returns-value"]
    level = os.environ.get("TOLLGATE_OPTIMIZE", "3")
    built = mypycify([*options, *modules()], opt_level=level, debug_level="0", multi_file=True, group_name="tollgate")
    for extension in built:  # another compiler's new warning is no reason not to build
        extension.extra_compile_args = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
    return built


setup(ext_modules=extensions())
