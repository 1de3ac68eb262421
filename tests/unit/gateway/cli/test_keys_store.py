"""`tollgate keys` on the store: create, list, rotate, revoke; and the options that restrict a key, wherever it is."""

import json
from hashlib import sha256

import pytest

from gateway.cli import main
from gateway.config import load
from gateway.table import Limits

YAML = """\
models:
  chat-8b: {context: 4096, versions: {fp8: {}}, adapters: {help: {path: adapters/help}}}
gpus: {cpu: {hourly_usd: 1}}
workers:
  - {name: w, url: "http://h:1", engine: vllm, serves: chat-8b@fp8, gpu: cpu}
tenants:
  support:
    keys:
      - {id: prod, sha256: 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8, expires: "2020-01-31"}
  research: {}
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "config"
    config.mkdir()
    (config / "all.yaml").write_text(YAML)
    return config


@pytest.fixture
def keys(directory, capsys):
    """Runs a command; gives its status and what it wrote to standard output and error."""

    def run(*arguments):
        try:
            status = main(["keys", *arguments, "--config", str(directory)])
        except SystemExit as ended:
            status = ended.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def listed(keys, *arguments):
    status, out, _ = keys("list", "--format", "json", *arguments)
    assert status == 0
    return {(one["tenant"], one["id"]): one for one in json.loads(out)["keys"]}


def test_a_key_goes_into_the_store_and_alone_to_standard_output(keys, directory, tmp_path):
    status, out, err = keys("create", "support", "--store")
    assert status == 0
    key = out.rstrip("\n")
    assert key.startswith("sk-tg-")
    assert f"key-1 of support is in the store at {tmp_path}/var/keys.db. The key, shown only now:" in err
    assert key not in err
    assert (directory / "all.yaml").read_text() == YAML
    stored = (tmp_path / "var" / "keys.db").read_bytes()
    assert sha256(key.encode()).hexdigest().encode() in stored
    assert key.encode() not in stored
    assert listed(keys)["support", "key-1"]["state"] == "active"


RESTRICTED = (
    "--models chat-8b:help,chat-8b --endpoints embeddings,chat.completions --expires 2099-01-31 "
    "--rpm 60 --concurrency 2 --priority batch"
).split()


def test_options_restrict_a_key_of_the_store(keys):
    assert keys("create", "support", "--store", *RESTRICTED)[0] == 0
    row = listed(keys)["support", "key-1"]
    assert row["models"] == ["chat-8b", "chat-8b:help"]
    assert row["endpoints"] == ["chat.completions", "embeddings"]
    assert (row["expires"], row["limits"], row["priority"]) == (
        "2099-01-31T00:00:00Z",
        {"rpm": 60, "concurrency": 2},
        "batch",
    )


def test_options_restrict_a_key_of_the_yaml_just_the_same(keys, directory):
    status, out, _ = keys("create", "support", "--write", *RESTRICTED)
    assert status == 0
    key = load(directory, {}).keys[sha256(out.strip().encode()).digest()]
    assert (key.models, key.endpoints) == ({"chat-8b", "chat-8b:help"}, {"chat.completions", "embeddings"})
    assert (key.limits, key.priority, key.expires) == (Limits(60, None, 2), "batch", 4_073_500_800.0)


def test_a_line_to_paste_has_them_too(keys):
    _, _, err = keys("create", "support", "--models", "chat-8b:help", "--expires", "30d", "--tpm", "5000")
    assert ', models: ["chat-8b:help"], expires: "20' in err
    assert ", limits: {tpm: 5000}}" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "chat-9b"], "--models: no model is called `chat-9b`: did you mean `chat-8b`?"),
        (["--endpoints", "chat"], "--endpoints: there is no `chat`: did you mean `chat.completions`?"),
        (["--expires", "soon"], "--expires: `soon` is no span, day or time: write for example `30d`"),
        (["--expires", "2020-01-01"], "--expires: `2020-01-01` has passed"),
        (["--rpm", "0"], "'0' is no whole number from 1"),
        (["--tpm", "1e3"], "is no whole number"),
        (["--concurrency", "9" * 5000], "is no whole number"),
        (["--priority", "urgent"], "invalid choice"),
        (["--write"], "not allowed with argument"),
    ],
)
def test_what_cannot_restrict_a_key_is_wrong_usage(keys, tmp_path, arguments, words):
    status, out, err = keys("create", "support", "--store", *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert not (tmp_path / "var").exists()


def test_a_tenant_that_is_not_there(keys):
    status, out, err = keys("create", "nobody", "--store")
    assert (status, out) == (1, "")
    assert "has no tenant nobody (it has support, research)" in err


def test_ids_are_one_sequence_over_yaml_and_store(keys):
    assert keys("create", "support", "--store", "--id", "prod")[0] == 1
    keys("create", "support", "--store")
    assert "key-2 of support" in keys("create", "support", "--write")[2]
    assert "key-3 of support" in keys("create", "support", "--store")[2]
    status, out, err = keys("create", "support", "--id", "key-3")
    assert (status, out) == (1, "")
    assert "already has a key called key-3" in err


def test_rotating_says_how_long_the_earlier_secret_is_let_in(keys):
    first = keys("create", "support", "--store")[1]
    status, second, err = keys("rotate", "support", "key-1")
    assert status == 0
    assert second.startswith("sk-tg-")
    assert second != first
    assert "key-1 of support has a new secret; its earlier secret is let in until 20" in err
    assert len(listed(keys)["support", "key-1"]["earlier_secrets_until"]) == 1
    status, third, err = keys("rotate", "support", "key-1", "--grace", "0s")
    assert status == 0
    assert third != second
    assert "its earlier secret is not let in" in err
    assert listed(keys)["support", "key-1"]["earlier_secrets_until"] == []


def test_revoking(keys):
    keys("create", "support", "--store")
    status, out, _ = keys("revoke", "support", "key-1")
    assert status == 0
    assert "key-1 of support is revoked since 20" in out
    assert keys("revoke", "support", "key-1") == (0, out, "")
    assert listed(keys)["support", "key-1"]["state"] == "revoked"
    status, out, err = keys("rotate", "support", "key-1")
    assert (status, out) == (1, "")
    assert "is revoked: create another key" in err


@pytest.mark.parametrize("command", ["rotate", "revoke"])
def test_a_key_of_the_yaml_is_changed_by_hand_and_where_is_said(keys, directory, command):
    status, out, err = keys(command, "support", "prod")
    assert (status, out) == (1, "")
    assert f"prod of support is written at {directory}/all.yaml:9 and is changed there: delete it to revoke it" in err


@pytest.mark.parametrize("command", ["rotate", "revoke"])
def test_a_key_that_is_not_there(keys, command):
    status, out, err = keys(command, "support", "none")
    assert (status, out) == (1, "")
    assert "no key called none of support; of this tenant it has: none" in err


@pytest.mark.parametrize("grace", ["soon", "1", "-1h", ""])
def test_a_grace_that_is_none_is_wrong_usage(keys, grace):
    keys("create", "support", "--store")
    status, out, err = keys("rotate", "support", "key-1", f"--grace={grace}")
    assert (status, out) == (2, "")
    assert "--grace: " in err


def test_the_list_shows_keys_of_both_kinds_and_their_states(keys, directory):
    keys("create", "research", "--store", "--models", "chat-8b", "--rpm", "5")
    keys("create", "support", "--store", "--id", "twin")
    text = YAML.replace("  research: {}\n", "").replace("{id: prod", "{id: twin")
    (directory / "all.yaml").write_text(text)
    assert listed(keys)["research", "key-1"]["state"] == "no_tenant"
    assert {tenant for tenant, _ in listed(keys, "--tenant", "support")} == {"support"}
    status, out, _ = keys("list")
    assert status == 0
    lines = [line for line in out.splitlines() if "│" in line]
    assert [line.split("│")[1:5] for line in lines if " twin " in line] == [
        [" support  ", " twin  ", " store  ", " shadowed  "],
        [" support  ", " twin  ", " yaml   ", " expired   "],
    ]
    assert any("models chat-8b; rpm 5" in line for line in lines)


def test_a_mistake_elsewhere_does_not_stand_in_the_way_of_a_revocation(keys, directory):
    keys("create", "support", "--store")
    (directory / "gateway.yaml").write_text("server: {prot: 1}\n")
    assert keys("revoke", "support", "key-1")[0] == 0


@pytest.mark.parametrize("command", [["list"], ["create", "support", "--store"], ["revoke", "support", "key-1"]])
def test_a_store_that_nobody_can_know_is_told(keys, directory, command):
    (directory / "gateway.yaml").write_text("state: ${env:NOT_SET_ANYWHERE}\n")
    status, out, err = keys(*command)
    assert (status, out) == (1, "")
    assert "NOT_SET_ANYWHERE" in err


def test_a_store_that_is_away_is_told_and_gives_out_no_key(keys, directory):
    (directory / "gateway.yaml").write_text("state: redis://:secret@127.0.0.1:1/0\n")
    for command in (["list"], ["create", "support", "--store"], ["rotate", "support", "x"], ["revoke", "support", "x"]):
        status, out, err = keys(*command)
        assert (status, out) == (1, "")
        assert "the store of keys at redis://127.0.0.1:1/0 does not do its work" in err
        assert "secret" not in err
    status, out, err = keys("create", "support")
    assert (status, out[:6]) == (0, "sk-tg-")
    assert "the ids of keys in the store are not known" in err
