"""`tollgate keys create`: the key is shown once, and what is written lets exactly that key in."""

from hashlib import sha256

import pytest

from gateway.cli import main
from gateway.config import load

TENANTS = """\
# who may call
tenants:
  support:
    keys:
      - {id: prod, sha256: 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8}  # the first
    tier: gold   # theirs
  research: {}
"""


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "tenants.yaml").write_text(TENANTS)
    return tmp_path


def create(capsys, directory, *arguments):
    status = main(["keys", "create", *arguments, "--config", str(directory)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_key_alone_goes_to_standard_output(directory, capsys):
    status, out, err = create(capsys, directory, "support")
    assert status == 0
    key = out.rstrip("\n")
    assert key.startswith("sk-tg-")
    assert len(key) == len("sk-tg-") + 43  # 256 bits
    assert f"- {{id: key-1, sha256: {sha256(key.encode()).hexdigest()}}}" in err
    assert f"under `tenants.support.keys` in {directory}/tenants.yaml" in err
    assert key not in err
    assert (directory / "tenants.yaml").read_text() == TENANTS


@pytest.mark.parametrize("tenant", ["support", "research"])
def test_a_written_key_lets_its_holder_in_and_changes_nothing_else(directory, capsys, tenant):
    status, out, err = create(capsys, directory, tenant, "--write", "--id", "laptop")
    assert status == 0
    key = load(directory, {}).keys[sha256(out.strip().encode()).digest()]
    assert (key.id, key.tenant.name) == ("laptop", tenant)
    text = (directory / "tenants.yaml").read_text()
    assert out.strip() not in text
    assert out.strip() not in err
    if tenant == "support":
        added = [line for line in text.splitlines() if "laptop" in line]
        assert [line for line in text.splitlines() if line not in added] == TENANTS.splitlines()


def test_keys_are_numbered_and_no_two_are_alike(directory, capsys):
    keys = {create(capsys, directory, "support", "--write")[1] for _ in range(3)}
    assert len(keys) == 3
    assert [key.id for key in load(directory, {}).keys.values()] == ["prod", "key-1", "key-2", "key-3"]


def test_an_id_that_is_taken_is_refused(directory, capsys):
    status, out, err = create(capsys, directory, "support", "--id", "prod", "--write")
    assert (status, out) == (1, "")
    assert "already has a key called prod" in err
    assert (directory / "tenants.yaml").read_text() == TENANTS


def test_a_new_tenant_is_shown_whole_and_not_written(directory, capsys):
    status, out, err = create(capsys, directory, "newcomer")
    assert status == 0
    assert out.startswith("sk-tg-")
    assert "tenants:\n  newcomer:\n    keys:\n      - {id: key-1, " in err
    status, out, err = create(capsys, directory, "newcomer", "--write")
    assert (status, out) == (1, "")
    assert "has no tenant newcomer (it has support, research)" in err


def test_without_a_directory_the_lines_to_paste_are_still_made(tmp_path, capsys):
    status, out, err = create(capsys, tmp_path / "none", "support")
    assert status == 0
    assert out.startswith("sk-tg-")
    assert "tenants:\n  support:" in err


@pytest.mark.parametrize("arguments", [["a b"], ["__idle__"], ["support", "--id", "a/b"], ["support", "--id", ""]])
def test_what_cannot_be_a_name_is_wrong_usage(directory, capsys, arguments):
    status, out, err = create(capsys, directory, *arguments)
    assert (status, out) == (2, "")
    assert "cannot be a name" in err


def test_a_mistake_elsewhere_does_not_stand_in_the_way(directory, capsys):
    (directory / "gateway.yaml").write_text("server: {prot: 1}\nstate: ${env:NOT_SET_ANYWHERE}\n")
    status, out, _ = create(capsys, directory, "support", "--write")
    assert status == 0
    assert sha256(out.strip().encode()).hexdigest() in (directory / "tenants.yaml").read_text()


def test_a_file_that_cannot_be_edited_safely_is_left_and_no_key_is_given_out(directory, capsys):
    """A key that was shown and not written would be lost."""
    text = "tenants:\n  other: &same {tier: gold}\n  support: *same\n"
    (directory / "tenants.yaml").write_text(text)
    status, out, err = create(capsys, directory, "support", "--write")
    assert (status, out) == (1, "")
    assert "without --write" in err
    assert (directory / "tenants.yaml").read_text() == text
