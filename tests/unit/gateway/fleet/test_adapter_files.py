"""What an adapter's version is."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gateway.fleet.adapter_files import Versions
from gateway.table import Adapter
from tests.unit.gateway.routing.tables import model


def files(path: Path, weights: str = "one") -> Adapter:
    path.mkdir(exist_ok=True)
    (path / "adapter_config.json").write_text("{}")
    (path / "adapter_model.safetensors").write_text(weights)
    return Adapter("a", str(path), None)


def version(adapter: Adapter) -> str:
    return asyncio.run(Versions().find(adapter))


def test_a_configured_version_is_known_at_once() -> None:
    assert Versions().known(Adapter("a", "/nowhere", None, "v3")) == "v3"


def test_the_same_files_at_the_same_path_are_the_same_version_and_others_are_not(tmp_path: Path) -> None:
    first = version(files(tmp_path / "a"))
    assert version(files(tmp_path / "a")) == first
    assert version(files(tmp_path / "a", "two")) != first
    assert version(files(tmp_path / "b")) != first
    assert first.isalnum()


@pytest.mark.parametrize("path", ["/nowhere/at/all", "org/on-a-hub", "\0"])
def test_where_nothing_is_to_be_seen_the_path_says_it(path: str) -> None:
    assert version(Adapter("a", path, None)) == version(Adapter("b", path, None)) != version(Adapter("a", "x", None))


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    adapter = files(tmp_path / "a")
    before = version(adapter)
    os.mkfifo(tmp_path / "a" / "pipe")
    assert version(adapter) == before


def test_no_files_are_no_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        versions, adapter = Versions(), files(tmp_path / "a")
        models = {"chat": model("chat", "v1", adapters=[])}
        models["chat"].adapters["a"] = adapter  # type: ignore[index]
        first = await versions.find(adapter)
        for entry in (tmp_path / "a").iterdir():
            entry.unlink()
        assert [await versions.review(models) for _ in range(3)] == [False] * 3
        (tmp_path / "a").rmdir()
        assert [await versions.review(models) for _ in range(3)] == [False] * 3
        assert versions.known(adapter) == first
        files(tmp_path / "a", "two")
        assert [await versions.review(models) for _ in range(3)] == [False, True, False]
        assert versions.known(adapter) != first

    asyncio.run(story())
    (said,) = [record for record in caplog.records if record.name == "tollgate.fleet"]
    assert "its last version stays" in said.message


def test_a_review_tells_changes_of_what_was_asked_for(tmp_path: Path) -> None:
    async def story() -> None:
        versions, adapter = Versions(), files(tmp_path / "a")
        models = {"chat": model("chat", "v1", adapters=[])}
        models["chat"].adapters["a"] = adapter  # type: ignore[index]
        assert not versions.known(adapter)
        assert not await versions.review(models)
        first = await versions.find(adapter)
        assert not await versions.review(models)
        files(tmp_path / "a", "half")
        assert not await versions.review(models)
        files(tmp_path / "a", "another")
        assert not await versions.review(models)  # they are not what they were at the last look
        assert versions.known(adapter) == first
        assert await versions.review(models)
        second = versions.known(adapter)
        assert second not in ("", first)
        assert not await versions.review(models)
        files(tmp_path / "a", "for a moment")
        assert not await versions.review(models)
        assert not await versions.review({})
        assert not await versions.review({})
        assert not versions.known(adapter)

    asyncio.run(story())
