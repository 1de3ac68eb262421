"""A configuration that is as it should be, and directories made of text."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ENVIRON = {"BURST_KEY": "sk-burst"}
EXAMPLE = Path(__file__).parent / "example"

Write = Callable[[Mapping[str, str]], Path]


@pytest.fixture(scope="session")
def environ() -> dict[str, str]:
    return ENVIRON


@pytest.fixture(scope="session")
def example() -> dict[str, str]:
    """The texts of a valid directory without a warning, by file name."""
    return {path.name: path.read_text() for path in sorted(EXAMPLE.glob("*.yaml"))}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Makes a directory of texts."""

    def make(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        return tmp_path

    return make
