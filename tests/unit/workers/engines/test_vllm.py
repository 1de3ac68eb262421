"""vLLM's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.table import Gpu, Launch
from tests.unit.workers.engines.jobs import job, options
from workers.engines.spec import CannotLaunch, Inference, LoadedAdapter
from workers.engines.vllm import spec

L40S = Gpu("l40s", 1_100_000_000, 48_000_000_000)
SUPPORT = LoadedAdapter("chat:support", Path("/srv/adapters/support-v3"), 12)
SQL = LoadedAdapter("chat:sql", Path("/srv/adapters/sql"), 4)


def test_the_whole_command_of_a_plain_worker() -> None:
    assert spec(job(gpu=L40S), "/env/bin/python").command == (
        *("/env/bin/python", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", "/srv/registry/chat/int4", "--served-model-name", "chat@int4"),
        *("--host", "127.0.0.1", "--port", "8102", "--max-model-len", "2048"),
        *("--enable-prompt-tokens-details", "--enable-per-request-metrics"),
        "--disable-uvicorn-access-log",
    )


def test_the_environment() -> None:
    env = spec(job(gpu=L40S), "python").env
    assert env == {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "300"}


@pytest.mark.parametrize("gpu", [None, Gpu("cpu", 0, None), Gpu("cpu-amx", 0, None)])
def test_a_cpu_worker_runs_eagerly_in_bfloat16_with_a_small_cache(gpu: Gpu | None) -> None:
    made = spec(job(gpu=gpu, gpus=2), "python")
    given = options(made.command)
    assert given["--dtype"] == ["bfloat16"]
    assert "--enforce-eager" in given
    assert "--tensor-parallel-size" not in given
    assert given["--kv-cache-memory-bytes"] == [str(2**30)]
    assert made.env["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert "VLLM_CPU_KVCACHE_SPACE" not in made.env


def test_several_gpus_share_the_model() -> None:
    assert options(spec(job(gpu=L40S, gpus=4), "python").command)["--tensor-parallel-size"] == ["4"]


def test_there_is_room_for_adapters_and_the_gateway_fills_it() -> None:
    made = spec(job(adapters=(SUPPORT, SQL), max_loras=8), "python")
    given = options(made.command)
    assert "--enable-lora" in given
    assert given["--max-loras"] == ["8"]
    assert "--lora-modules" not in given
    assert made.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


@pytest.mark.parametrize(("rank", "allocated"), [(1, "1"), (2, "8"), (8, "8"), (9, "16"), (256, "256"), (511, "512")])
def test_the_rank_is_the_next_one_that_vllm_allocates(rank: int, allocated: str) -> None:
    adapters = (
        (SQL, LoadedAdapter("chat:big", Path("/big"), rank)) if rank > 4 else (LoadedAdapter("a", Path("/"), rank),)
    )
    assert options(spec(job(adapters=adapters, max_loras=1), "python").command)["--max-lora-rank"] == [allocated]


def test_a_rank_beyond_vllm_is_refused_with_the_adapters_name() -> None:
    with pytest.raises(CannotLaunch, match="chat:big has rank 513, vLLM takes 512 at most"):
        spec(job(adapters=(LoadedAdapter("chat:big", Path("/big"), 513),), max_loras=1), "python")


def test_room_is_made_for_adapters_that_come_later_and_without_room_lora_stays_off() -> None:
    given = options(spec(job(max_loras=8), "python").command)
    assert "--enable-lora" in given
    assert "--max-lora-rank" not in given
    without = spec(job(adapters=(SQL,), max_loras=0), "python")
    assert "--enable-lora" not in without.command
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in without.env


def test_an_embedding_worker_pools() -> None:
    made = spec(job(task="embed"), "python")
    given = options(made.command)
    assert (given["--runner"], given["--convert"]) == (["pooling"], ["embed"])
    assert made.inference == Inference("/v1/embeddings", {"model": "chat@int4", "input": "Hello"})


def test_the_probe_is_one_token_of_the_base_model() -> None:
    inference = spec(job(), "python").inference
    assert inference.path == "/v1/completions"
    assert (inference.body["model"], inference.body["max_tokens"]) == ("chat@int4", 1)


def test_the_engine_may_know_the_model_by_another_name() -> None:
    made = spec(job(serves_as="llama"), "python")
    assert options(made.command)["--served-model-name"] == ["llama"]
    assert made.inference.body["model"] == "llama"


def test_what_is_written_under_launch_has_the_last_word() -> None:
    launch = Launch(
        8102, ("--max-model-len", "512", "--dtype", "float32"), {"HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
    )
    made = spec(job(launch=launch), "python")
    assert made.command[-4:] == ("--max-model-len", "512", "--dtype", "float32")
    assert made.env["HF_HUB_OFFLINE"] == "0"
    assert made.env["OMP_NUM_THREADS"] == "1"
