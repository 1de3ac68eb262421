"""Whole directories: the contract's own, the one shipped here, and any mutation of a valid one."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import ConfigError, check, examine, ledger_location, load
from gateway.table import Table

ROOT = Path(__file__).parents[4]
CONTRACT = ROOT.parent / "shared" / "contract" / "router_config"
SHIPPED = ROOT / "router_config"


@pytest.mark.skipif(not CONTRACT.is_dir(), reason="the contract's example is not beside this checkout")
def test_the_contracts_example_loads():
    table = load(CONTRACT, {"BURST_KEY": "sk-x"})
    assert set(table.workers) == {"chat-fp8-0", "chat-int4-0", "burst"}
    assert [problem for problem in check(CONTRACT, {"BURST_KEY": "sk-x"}) if problem.severity == "error"] == []


@pytest.mark.skipif(not CONTRACT.is_dir(), reason="the contract's example is not beside this checkout")
def test_the_contracts_example_without_its_secret_names_it():
    with pytest.raises(ConfigError, match=r"fleet\.yaml:21: error: the environment variable BURST_KEY is not set"):
        load(CONTRACT, {})


def test_what_is_shipped_loads():
    problems = check(SHIPPED, {})
    assert [str(problem) for problem in problems if problem.severity == "error"] == []
    assert all("everyone knows the demonstration's key" in problem.message for problem in problems)


def test_an_error_holds_every_problem_in_the_order_of_the_files(write):
    directory = write({"b.yaml": "server: {prot: 1}\n", "a.yaml": "log: {format: x}\n\nwrokers: []\ntenants: {}\n"})
    with pytest.raises(ConfigError) as caught:
        load(directory, {})
    assert [(Path(problem.file).name, problem.line, problem.severity) for problem in caught.value.problems] == [
        ("a.yaml", 1, "error"),
        ("a.yaml", 3, "error"),
        ("b.yaml", 1, "error"),
    ]
    assert str(caught.value).count("\n") == 2
    assert f"{directory / 'b.yaml'}:1: error: unknown key `prot` in `server`: did you mean `port`?" in str(caught.value)


def test_the_ledger_is_found_while_the_rest_is_in_the_making(write):
    directory = write({"a.yaml": "ledger: sqlite:///x.db\nserver: {port: 0}\nworkers: [{}]\n"})
    assert ledger_location(directory, {}) == "sqlite:///x.db"
    (directory / "a.yaml").write_text("server: {port: 0}\n")
    assert ledger_location(directory, {}) == "sqlite:///var/ledger.db"


@pytest.mark.parametrize("text", ["ledger: mysql://x\n", "ledger: [a\n", "ledger: ${env:NONE}x\nledger: 1\n"])
def test_a_ledger_that_cannot_be_known_is_not_guessed(write, text):
    with pytest.raises(ConfigError):
        ledger_location(write({"a.yaml": text}), {})


def test_environment_of_the_process_is_the_default(write, monkeypatch):
    monkeypatch.setenv("TOLLGATE_TEST_STATE", "redis://from-the-environment")
    assert (
        load(write({"a.yaml": "state: ${env:TOLLGATE_TEST_STATE}\n"})).settings.state == "redis://from-the-environment"
    )


# Mutations


def fit(directory, environ):
    """Whatever lies in the directory, it loads or says where it does not."""
    outcome = examine(directory, environ)
    assert isinstance(outcome.table, Table) or any(problem.severity == "error" for problem in outcome.problems)
    for problem in outcome.problems:
        file = Path(problem.file)
        assert file == directory or file.parent == directory
        lines = file.read_bytes().count(b"\n") + 1 if file.is_file() else 1
        assert 1 <= problem.line <= lines
        wrong, _, remedy = problem.message.partition(": ")
        assert wrong
        assert remedy


@pytest.fixture(scope="module")
def mutable(tmp_path_factory):
    return tmp_path_factory.mktemp("mutated")


NO_CHECKS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
JUNK = st.sampled_from(
    [
        *("", " ", "\n", "\t", ":", "- ", "{", "}", "[", "]", "&a ", "*a", "!x ", '"', "'", "#", "|", ">", "@", "%"),
        *("no", "0", "-1", "1e999", ".nan", "~", "\0", "é", "\ufeff", "${env:", "<<: ", "---\n", "9" * 20, '"\\ud800"'),
    ]
)


@NO_CHECKS
@given(data=st.data())
def test_any_damage_to_the_text_loads_or_is_told(mutable, example, environ, data):
    files = dict(example)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(files)))
        text = files[name]
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 30)))
        files[name] = text[:start] + data.draw(JUNK | st.text(max_size=3)) + text[end:]
    for name, text in files.items():
        (mutable / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    fit(mutable, environ)


@pytest.fixture(scope="module")
def parsed(example):
    return {name: yaml.safe_load(text) for name, text in example.items()}


def leaves(node, path=()):
    yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    if isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves(value, (*path, index))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["chat-8b", "chat-8b@fp8", "auto", "support", "10%", "5s", "0s", "p95", "http://h", "a:b@c", "@"]),
    st.just([]),
    st.just({}),
    st.lists(st.sampled_from(["big", "auto", "chat-8b:sql", ""]), max_size=3),
    st.dictionaries(st.sampled_from(["model", "name", "x", "fp8"]), st.integers(0, 3), max_size=2),
)


@NO_CHECKS
@given(data=st.data())
def test_any_other_value_anywhere_loads_or_is_told(mutable, parsed, environ, data):
    whole = copy.deepcopy(parsed)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(name for name in whole if whole[name])))
        path = data.draw(st.sampled_from([path for path in leaves(whole[name]) if path]))
        holder = whole[name]
        for step in path[:-1]:
            holder = holder[step]
        match data.draw(st.sampled_from(["replace", "delete", "rename"])):
            case "replace":
                holder[path[-1]] = data.draw(VALUES)
            case "delete":
                del holder[path[-1]]
            case "rename" if isinstance(holder, dict):
                renamed = data.draw(st.sampled_from(["tenants", "x", "no", "8"]) | st.text(max_size=5))
                holder[renamed] = holder.pop(path[-1])
    for name, content in whole.items():
        (mutable / name).write_text(json.dumps(content, indent=1))  # which is YAML, and quick to write
    fit(mutable, environ)


def test_a_change_is_checked_before_it_is_made(write, example, environ):
    directory = write(example)
    before = load(directory, environ)
    wrong = examine(directory, environ, {directory / "models.yaml": b"models: 7\n"})
    assert wrong.table is None
    added = examine(directory, environ, {directory / "more.yaml": b"aliases: {new: chat-8b}\n"})
    assert added.table is not None
    assert added.table.aliases["new"] == "chat-8b"
    assert load(directory, environ).revision == before.revision != added.revision
