"""What may be compiled: rules that mypyc itself does not check, and without which it compiles to something else."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def load_setup() -> Any:
    spec = importlib.util.spec_from_file_location("tollgate_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SETUP = load_setup()


def believed_over_an_await(source: str) -> list[str]:
    """Attributes that a coroutine sets or compares, and reads again after an await: mypy takes them to be what they
    were, others may have changed them, and compiled code raises TypeError. Ask in a method of its own instead."""
    found: list[str] = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        nodes = list(ast.walk(function))
        awaits = [node.lineno for node in nodes if isinstance(node, ast.Await | ast.AsyncWith | ast.AsyncFor)]
        compared = {
            id(node.left) for node in nodes if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is)
        }
        known: dict[str, int] = {}  # attribute -> the latest line that says what it is
        attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
        for node in sorted(attributes, key=lambda node: (node.lineno, isinstance(node.ctx, ast.Store))):
            name = ast.unparse(node)
            if isinstance(node.ctx, ast.Store):
                known[name] = node.lineno
            elif name in known and any(known[name] < line < node.lineno for line in awaits):
                found.append(f"{function.name}: {name}, line {node.lineno}")
            elif id(node) in compared:
                known[name] = node.lineno
    return found


def test_what_is_left_out_is_there_and_has_a_reason() -> None:
    paths = SETUP.modules(ROOT)
    assert "gateway/serve.py" in paths
    assert not set(paths) & SETUP.INTERPRETED.keys()
    assert all(SETUP.INTERPRETED.values())


def test_no_compiled_class_derives_from_an_interpreted_one() -> None:
    assert SETUP.derived_from_interpreted(ROOT, SETUP.modules(ROOT)) == []


@pytest.mark.parametrize("base", ["asyncio.Protocol", "logging.Handler", "Elsewhere", "Thread"])
def test_such_a_class_is_found(tmp_path: Path, base: str) -> None:
    (tmp_path / "one.py").write_text(f"class Own: ...\n\nclass Bad({base}): ...\n\nclass Good(Own): ...\n")
    assert SETUP.derived_from_interpreted(tmp_path, ["one.py"]) == ["one.py: Bad"]


@pytest.mark.parametrize("path", SETUP.modules(ROOT))
def test_nothing_is_believed_over_an_await(path: str) -> None:
    assert believed_over_an_await((ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("body", "finds"),
    [
        ("self.x = y\n  await z\n  return self.x", 1),
        ("self.x = y = 1\n  await z\n  if self.x is y:\n    pass", 1),
        ("if self.x is None:\n    return\n  await z\n  self.x.y()", 1),
        ("self.x = await z\n  return self.x", 0),
        ("await z\n  self.x = y\n  return self.x", 0),
        ("self.x = y\n  await z\n  self.x = y\n  return self.x", 0),
        ("await z\n  return self.x", 0),
    ],
)
def test_such_an_attribute_is_found(body: str, finds: int) -> None:
    assert len(believed_over_an_await(f"async def f(self):\n  {body}\n")) == finds
