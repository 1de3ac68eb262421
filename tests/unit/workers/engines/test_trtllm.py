"""trtllm-serve's command line, to its documented contract."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gateway.table import Gpu, Launch
from tests.unit.workers.engines.jobs import job
from workers.engines import trtllm
from workers.engines.spec import CannotLaunch, LoadedAdapter

L40S = Gpu("l40s", 1_100_000_000, 48_000_000_000)
OPTIONS = Path("var/log/workers/chat-0.trtllm.yaml")


def test_the_whole_command() -> None:
    launch = Launch(8102, ("--max_batch_size", "64"))
    assert trtllm.spec(job(gpu=L40S, gpus=2, launch=launch), "/env/bin/python").command == (
        *("/env/bin/python", "-m", "tensorrt_llm.commands.serve", "/srv/registry/chat/int4"),
        *("--served_model_name", "chat@int4", "--backend", "pytorch", "--host", "127.0.0.1", "--port", "8102"),
        *("--max_seq_len", "2048", "--tp_size", "2", "--config", str(OPTIONS)),
        *("--max_batch_size", "64"),
    )


def test_load_figures_are_switched_on() -> None:
    written = json.loads(trtllm.spec(job(), "python").files[OPTIONS])
    assert written == {"enable_iter_perf_stats": True, "return_perf_metrics": True}


def test_adapters_get_room_but_no_names() -> None:
    adapters = (LoadedAdapter("chat:a", Path("/a"), 8), LoadedAdapter("chat:b", Path("/b"), 16))
    made = trtllm.spec(job(adapters=adapters, max_loras=1), "python")
    lora = json.loads(made.files[OPTIONS])["lora_config"]
    assert (lora["max_lora_rank"], lora["max_loras"], lora["max_cpu_loras"]) == (16, 1, 2)
    assert set(lora["lora_target_modules"]) == set(lora["trtllm_modules_to_hf_modules"])


def test_health_and_probe() -> None:
    made = trtllm.spec(job(), "python")
    assert made.health_path == "/health"
    assert made.inference.path == "/v1/completions"


def test_environment_of_the_launch_wins() -> None:
    assert trtllm.spec(job(), "python").env == {"HF_HUB_OFFLINE": "1"}
    assert trtllm.spec(job(launch=Launch(1, (), {"HF_HUB_OFFLINE": "0"})), "python").env == {"HF_HUB_OFFLINE": "0"}


def test_embeddings_are_refused() -> None:
    with pytest.raises(CannotLaunch, match="use `engine: vllm`"):
        trtllm.spec(job(task="embed"), "python")


def test_its_python_is_named_or_missing(tmp_path: Path) -> None:
    assert trtllm.python(tmp_path, {"TOLLGATE_TRTLLM_PYTHON": sys.executable}) == Path(sys.executable)
    with pytest.raises(CannotLaunch, match="set TOLLGATE_TRTLLM_PYTHON"):
        trtllm.python(tmp_path, {})
    own = tmp_path / ".venvs/trtllm/bin/python"
    own.parent.mkdir(parents=True)
    own.symlink_to(sys.executable)
    assert trtllm.python(tmp_path, {}) == own
