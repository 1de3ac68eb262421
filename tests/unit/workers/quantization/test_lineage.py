from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.workers.quantization.checkpoints import checkpoint
from workers.quantization.lineage import describe, name_of, revision_of
from workers.registry.digest import digest_of_artifact

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_directory_is_called_by_its_name_and_may_have_no_revision(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base")

    described = describe(base)

    assert (described.name, described.revision) == ("base", None)
    assert described.digest == digest_of_artifact(base)


def test_a_relative_path_has_the_name_of_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoint(tmp_path / "base"))

    assert name_of(Path()) == "base"


def test_a_snapshot_of_the_hubs_cache_has_the_models_name_and_commit(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "models--org--chat-8b" / "snapshots" / COMMIT)

    assert (name_of(base), revision_of(base)) == ("org/chat-8b", COMMIT)


@pytest.mark.parametrize(("written", "revision"), [(f"{COMMIT}\netag\n1.0\n", COMMIT), ("main\n", None), ("", None)])
def test_a_download_has_the_commit_that_it_was_made_from(tmp_path: Path, written: str, revision: str | None) -> None:
    base = checkpoint(tmp_path / "base")
    metadata = base / ".cache/huggingface/download/config.json.metadata"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(written)

    assert revision_of(base) == revision
