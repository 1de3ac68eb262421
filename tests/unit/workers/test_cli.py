from __future__ import annotations

import subprocess
import sys

import pytest

from workers.cli import COMMANDS, main


@pytest.mark.parametrize("command", [name.removesuffix("_command").replace("_", "-") for name in COMMANDS])
def test_every_command_explains_itself_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])

    assert stopped.value.code == 0
    examples = capsys.readouterr().out.split("examples:", 1)[1]
    assert f"tollgate-worker {command}" in examples
    assert "%%" not in examples  # an epilog is printed as it is


def test_wrong_usage_exits_2() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["quantise"])

    assert stopped.value.code == 2


def test_a_refusal_is_one_message_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["quantize", "/nonexistent", "--recipe", "fp8", "--out", "/nonexistent-too"])

    assert code == 2
    assert capsys.readouterr().err.startswith("tollgate-worker: no such checkpoint directory: /nonexistent")


def test_a_reader_that_has_seen_enough_is_no_problem() -> None:
    command = [sys.executable, "-m", "workers.cli", "plan", "7B", "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.timeout(120)
def test_closed_streams_lead_nowhere() -> None:
    command = f'exec "{sys.executable}" -m workers.cli plan 7B --gpu l40s <&- >&- 2>&-'

    assert subprocess.run(["sh", "-c", command], check=False, timeout=100).returncode == 0
