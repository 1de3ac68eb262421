"""The command line as a whole: its help, its exit status, and how little it loads."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from gateway import cli
from gateway.cli import create_parser, main
from gateway.ledger.dimensions import DIMENSIONS

COMMANDS = (
    ["serve"],
    ["up"],
    ["check"],
    ["keys"],
    ["keys", "create"],
    *(["keys", name] for name in ("list", "rotate", "revoke")),
    ["report"],
    ["audit"],
    ["export"],
)


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_that_parses(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    examples = re.findall(r"^ {2}(?:export \w+=\$\()?tollgate ([^>)|\n]*)", text, re.MULTILINE)
    assert examples
    for example in examples:
        arguments = create_parser().parse_args(shlex.split(example))
        assert callable(arguments.run)


def test_the_help_of_all_names_every_command_once(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for command in ("serve", "up", "check", "keys", "report", "export"):
        assert len(re.findall(rf"^    {command} ", text, re.MULTILINE)) == 1
    assert "exit status: 0 done, 1 found a problem, 2 wrong usage" in text


def test_the_help_of_report_names_the_ledgers_dimensions(capsys):
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    assert f"dimensions: {', '.join(DIMENSIONS)}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["serve", "extra"],
        ["serve", "--port", "x"],
        ["serve", "--port", "-1"],
        ["serve", "--port", "65536"],
        ["serve", "--port", "٣"],
        ["check", "--format", "xml"],
        ["keys"],
        ["keys", "create"],
        ["report", "--from", "yesterday"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: tollgate" in capsys.readouterr().err


def test_no_command_shows_the_help_and_is_wrong_usage(capsys):
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"tollgate(?: \d+\.\d+\.\d+.*|, run from its source .*)\n", capsys.readouterr().out)


def test_the_module_runs():
    done = run("-m", "gateway.cli", "check", "/nowhere/at/all")
    assert done.returncode == 2
    assert done.stderr == "tollgate: /nowhere/at/all is not a directory: name the one that holds the YAML files\n"


def test_help_loads_nothing_heavy():
    """The help must be there at once, and before anything a broken installation may lack."""
    code = (
        "import sys, contextlib\n"
        "from gateway.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "heavy = {'pydantic', 'fastapi', 'uvicorn', 'yaml', 'rich', 'sqlite3', 'asyncio', 'gateway.config'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    """`tollgate check | head -1`."""
    (tmp_path / "a.yaml").write_text("".join(f"key{i}: 1\n" for i in range(20_000)))
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "check", str(tmp_path)], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    os.close(reader)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_an_interrupt_is_no_traceback(monkeypatch):
    from gateway.cli import check

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run", interrupted)
    assert cli.main(["check"]) == 130


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serve"], ("router_config", None)),
        (["serve", "--config", "etc", "--port", "0"], ("etc", 0)),
        (["up", "--port", "8080"], ("router_config", 8080)),
    ],
)
def test_serve_and_up_hand_over_directory_and_port(arguments, expected):
    parsed = create_parser().parse_args(arguments)
    assert (str(parsed.config), parsed.port) == expected
    assert parsed.run.__name__ == f"run_{arguments[0]}"


def test_serve_returns_what_the_gateway_ended_with(tmp_path, capfd):
    (tmp_path / "a.yaml").write_text("server: {prot: 1}\n")
    assert main(["serve", "--config", str(tmp_path)]) == 1
    assert "did you mean `port`?" in capfd.readouterr().err
