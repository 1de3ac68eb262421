"""The command is a stand-in that writes what version 0.4.13 of lm-eval wrote; its samples were recorded from a run."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from workers.errors import WrongUsage
from workers.evaluation.client import Client, Endpoint
from workers.evaluation.tasks.asking import compare_tasks
from workers.evaluation.tasks.lm_eval import LmEvalFailed, LmEvalTask, arguments, read_samples
from workers.evaluation.tasks.task import TaskAnswers

RECORDED = Path(__file__).with_name("lm_eval_samples.jsonl").read_text()
ENDPOINT = Endpoint("http://127.0.0.1:9/v1", "scribe", key="secret")

STAND_IN = """
import json, os, pathlib, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert options["--model"] == "local-completions" and sys.argv[-1] == "--log_samples", sys.argv
assert os.environ["OPENAI_API_KEY"] == "secret"
if os.environ.get("LM_EVAL_BREAKS"):
    sys.exit("ValueError: no such task")
out = pathlib.Path(options["--output_path"]) / "scribe"
out.mkdir()
(out / "results_2026-11-21T23-55-10.json").write_text("{}")
if samples := os.environ.get("LM_EVAL_SAMPLES"):
    (out / f"samples_{options['--tasks']}_choice_2026-11-21T23-55-10.073512.jsonl").write_text(samples)
"""


@pytest.fixture(autouse=True)
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lm_eval.py").write_text(STAND_IN)
    monkeypatch.setenv("TOLLGATE_LM_EVAL", shlex.join([sys.executable, str(tmp_path / "lm_eval.py")]))
    monkeypatch.setenv("LM_EVAL_SAMPLES", RECORDED)


def answers(task: str = "tiny") -> TaskAnswers:
    async def scene() -> TaskAnswers:
        async with Client(ENDPOINT) as client:
            return await LmEvalTask(task).answer(client, seed=7, count=2)

    return asyncio.run(scene())


def test_samples_are_paired_by_example(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = answers()
    monkeypatch.setenv("LM_EVAL_SAMPLES", RECORDED.replace('"acc": 1.0}', '"acc": 0.0}', 1))
    candidate = answers()

    assert reference.task == "lm-eval:tiny"
    assert [answer.right for answer in reference.answers] == [True, True]
    assert reference.answers[0].example.startswith("tiny_choice/0/f6641f")
    (task,) = compare_tasks([reference], [candidate])
    assert (task.examples, task.lost, task.gained) == (2, 1, 0)


def test_the_command_line() -> None:
    told = arguments("arc_easy", Endpoint("http://h:1", "scribe:sql", tokenizer="/m/scribe"), Path("/out"), 7, 50)
    assert shlex.join(told) == (
        "--model local-completions --model_args model=scribe:sql,base_url=http://h:1/v1/completions,num_concurrent=8,"
        "max_retries=1,tokenizer=/m/scribe,tokenizer_backend=huggingface --tasks arc_easy --limit 50 --seed 7 "
        "--output_path /out --log_samples"
    )
    with pytest.raises(WrongUsage, match="neither a comma"):
        arguments("arc_easy", Endpoint("http://h:1", "a,b"), Path("/out"), 7, 50)


def test_a_yaml_file_is_named_by_its_stem() -> None:
    assert LmEvalTask("mine/tiny.yaml").name == "lm-eval:tiny"


def test_without_the_command_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_LM_EVAL", "no-such-command")
    with pytest.raises(WrongUsage, match=r"pip install 'lm-eval\[api\]'"):
        LmEvalTask("arc_easy")


def test_a_failure_has_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_EVAL_BREAKS", "1")
    with pytest.raises(LmEvalFailed, match="status 1; it ended with:\n  ValueError: no such task"):
        answers()


def test_a_run_without_samples_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_EVAL_SAMPLES")
    with pytest.raises(LmEvalFailed, match="no log of samples"):
        answers()


def test_the_command_ends_with_whoever_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "lm_eval.py").write_text(
        "import os, pathlib, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[0] + '.ended').touch(), os._exit(0)))\n"
        "pathlib.Path(sys.argv[0] + '.pid').touch()\n"
        "while True: signal.pause()\n"
    )

    async def scene() -> None:
        async with Client(ENDPOINT) as client:
            waiting = asyncio.create_task(LmEvalTask("tiny").answer(client, 0, 1))
            while not (tmp_path / "lm_eval.py.pid").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(scene())
    assert (tmp_path / "lm_eval.py.ended").exists()


def sample(**fields: object) -> str:
    return json.dumps({"doc_id": 0, "filter": "none", "metrics": ["acc"], "doc_hash": "d", "acc": 1.0} | fields)


def read(*lines: str) -> list[bool]:
    return [answer.right for answer in read_samples({"samples_t_2026.jsonl": "\n".join(lines)})]


def test_the_metric_that_says_right_or_wrong_is_chosen() -> None:
    both: Mapping[str, Any] = {"metrics": ["acc_norm", "acc", "bleu"], "acc_norm": 0.0, "bleu": 0.4}
    assert read(sample(**both), sample(doc_id=1, **both | {"acc": 0.0})) == [True, False]
    older = {"doc_id": 0, "filter": "none", "exact_match": 1}
    assert read(json.dumps(older)) == [True]
    assert read(sample(metrics=["mine"], mine=True), sample(doc_id=1, metrics=["mine"], mine=False)) == [True, False]


def test_of_several_filters_the_first_judges() -> None:
    lines = [sample(doc_id=n, filter=name, acc=right) for name, right in (("strict", 0), ("lax", 1)) for n in range(3)]
    assert read(*lines) == [False, False, False]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["{"], "line 1 is not JSON"),
        (["[]"], "no sample"),
        ([sample(acc=0.5)], r"no metric that is 0 or 1 .*\(it has acc\)"),
        ([sample(metrics=[])], None),
        ([sample(), sample()], "an example twice"),
        ([""], "no metric"),
    ],
)
def test_a_log_that_cannot_be_paired_is_refused(lines: list[str], says: str | None) -> None:
    if says is None:
        assert read(*lines) == [True]
        return
    with pytest.raises(LmEvalFailed, match=says):
        read(*lines)
