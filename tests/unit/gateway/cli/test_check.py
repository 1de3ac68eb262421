"""`tollgate check`: what it prints and how it ends."""

import json

import pytest

from gateway.cli import main

RIGHT = "models: {m: {context: 10, versions: {v: {}}}}\nworkers:\n"
RIGHT += "  - {name: w, engine: vllm, serves: m@v, url: 'http://h', gpu: g}\ngpus: {g: {hourly_usd: 1}}\ntenants: {}\n"


@pytest.fixture
def directory(tmp_path):
    def make(text):
        (tmp_path / "a.yaml").write_text(text)
        return tmp_path

    return make


def test_a_directory_as_it_should_be(directory, capsys):
    path = directory(RIGHT)
    assert main(["check", str(path)]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{path}: ok, revision ")
    assert line.endswith(", 1 model, 1 worker, 0 routes, 0 tenants\n")


def test_a_warning_is_told_and_is_no_failure(directory, capsys):
    path = directory(RIGHT.replace("tenants: {}", "tenants: {t: {}}"))
    assert main(["check", str(path)]) == 0
    warning, verdict = capsys.readouterr().out.splitlines()
    assert warning.startswith(f"{path}/a.yaml:5: warning: `t` has no key")
    assert verdict.endswith("1 tenant, 1 warning")


def test_every_error_has_its_line_and_the_end_is_1(directory, capsys):
    path = directory("server: {prot: 1}\n\nlog: {format: x}\ntenants: {t: {}}\n")
    assert main(["check", str(path)]) == 1
    first, second, third, verdict = capsys.readouterr().out.splitlines()
    assert first == f"{path}/a.yaml:1: error: unknown key `prot` in `server`: did you mean `port`?"
    assert second.startswith(f"{path}/a.yaml:3: error: ")
    assert third.startswith(f"{path}/a.yaml:4: warning: ")
    assert verdict == f"{path}: 2 errors, 1 warning"


@pytest.mark.parametrize(("text", "status"), [(RIGHT, 0), ("server: {prot: 1}\ntenants: {}\n", 1)])
def test_json_for_programs(directory, capsys, text, status):
    path = directory(text)
    assert main(["check", str(path), "--format", "json"]) == status
    document = json.loads(capsys.readouterr().out)
    assert document["valid"] is (status == 0)
    assert len(document["revision"]) == 12
    if status:
        assert document["problems"] == [
            {
                "file": f"{path}/a.yaml",
                "line": 1,
                "message": "unknown key `prot` in `server`: did you mean `port`?",
                "severity": "error",
            }
        ]


def test_a_directory_without_yaml_is_a_problem_and_no_directory_is_wrong_usage(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 1
    assert "no *.yaml file" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "x")]) == 2


def test_the_default_is_router_config(tmp_path, monkeypatch, capsys):
    (tmp_path / "router_config").mkdir()
    (tmp_path / "router_config" / "a.yaml").write_text(RIGHT)
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 0
    assert capsys.readouterr().out.startswith("router_config: ok")
