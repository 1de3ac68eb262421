"""What engines' pages of metrics say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engines import DIALECTS
from gateway.engines.dialect import TellsLoad
from gateway.engines.load import MOST, NO_LOAD, UNKNOWN, Load, Page
from gateway.table import Engine
from loadtests.standin.metrics import KV_BLOCK_TOKENS, KV_BLOCKS, Metrics

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a {b} 7"} 2.0
vllm:num_requests_running{engine="1",model_name="a {b} 7"} 1.0
vllm:num_requests_waiting{engine="0",model_name="a"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="a"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="a"} 8.128902e+06
vllm:prompt_tokens_total{engine="1",model_name="a"} 2.0 1795281304000
vllm:prompt_tokens_created{engine="0",model_name="a"} 1.795281304e+09
vllm:prompt_tokens_by_source_total{engine="0",model_name="a",source="local_compute"} 831.0
vllm:generation_tokens_total{engine="0",model_name="a"} 776.0
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{_block_size_resolved="True",block_size="16",effective_attention_block_size="64",\
enable_prefix_caching="True",engine="0",hash_block_size="32",num_gpu_blocks="2000",\
num_gpu_blocks_override="None"} 1.0
vllm:cache_config_info{_block_size_resolved="True",block_size="16",effective_attention_block_size="64",\
enable_prefix_caching="True",engine="1",hash_block_size="32",num_gpu_blocks="2000",\
num_gpu_blocks_override="None"} 1.0
process_start_time_seconds 1.79528129086e+09
"""


def told(engine: Engine, page: bytes) -> Load:
    dialect = DIALECTS[engine]
    assert isinstance(dialect, TellsLoad)
    return dialect.load(page)


def test_vllm_is_read_over_all_its_engines() -> None:
    assert told("vllm", VLLM) == Load(3, 4, 0.5, 8128904, 776, 1795281290.86, 32_000)


def test_the_stand_in_writes_what_is_read() -> None:
    metrics = Metrics()
    metrics.active, metrics.prompt_tokens, metrics.generation_tokens, metrics.kv_usage = 5, 100, 20, 0.5
    assert told("vllm", metrics.text("m", 3)) == Load(3, 2, 0.5, 100, 20, 0.0, KV_BLOCKS * KV_BLOCK_TOKENS)


@pytest.mark.parametrize(
    ("engine", "page", "load"),
    [
        (
            "sglang",
            b'sglang:num_running_reqs{model_name="m"} 1.0\nsglang:num_queue_reqs{model_name="m"} 2.0\n'
            b'sglang:token_usage{model_name="m"} 0.28\nsglang:prompt_tokens_total{model_name="m"} 7.0\n'
            b'sglang:generation_tokens_total{model_name="m"} 9.0\n'
            b'sglang:max_total_num_tokens{dp_rank="0",model_name="m"} 161721.0\n'
            b'sglang:max_total_num_tokens{dp_rank="1",model_name="m"} 161721.0\n',
            Load(1, 2, 0.28, 7, 9, cache_tokens=323_442),
        ),
        (
            "trtllm",
            b'trtllm_num_requests_running{m="x"} 1\ntrtllm_num_requests_waiting{m="x"} 2\n'
            b'trtllm_kv_cache_utilization{m="x"} 0.5\n',
            Load(1, 2, 0.5),
        ),
        (
            "triton",
            b'nv_inference_pending_request_count{model="m",version="1"} 7\n'
            b'nv_trt_llm_request_metrics{model="m",request_type="active",version="1"} 9\n'
            b'nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 5\n'
            b'nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 4\n'
            b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="m",version="1"} 50\n'
            b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m",version="1"} 0.5\n',
            Load(5, 4, 0.5),
        ),
        (
            "triton",  # with another backend than TensorRT-LLM's
            b'nv_inference_pending_request_count{model="a",version="1"} 2\n'
            b'nv_inference_pending_request_count{model="b",version="1"} 1\n',
            Load(waiting=3),
        ),
        (
            "triton",
            b'vllm:num_requests_running{model="m",version="1"} 3\nvllm:num_requests_waiting{model="m",version="1"} 2\n'
            b'nv_inference_pending_request_count{model="m",version="1"} 9\n',
            Load(3, 2),
        ),
        ("tgi", b"tgi_queue_size 2\ntgi_batch_current_size 1\ntgi_batch_current_max_tokens 9\n", Load(1, 2)),
    ],
)
def test_other_engines_tell_what_they_have(engine: Engine, page: bytes, load: Load) -> None:
    assert told(engine, page) == load


def test_a_hosted_endpoint_tells_nothing() -> None:
    assert not isinstance(DIALECTS["openai"], TellsLoad)


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"-1", b"x", b"1e300", b"", b"0x10", b"9" * 400])
def test_what_no_counter_can_be_is_not_known(value: bytes) -> None:
    page = b'vllm:prompt_tokens_total{engine="0"} %b\nvllm:generation_tokens_total{engine="0"} 1\n' % value
    assert told("vllm", page) == Load(output_tokens=1)


@pytest.mark.parametrize(
    ("labels", "tokens"),
    [
        (b'num_gpu_blocks="300",engine="0",block_size="32"', 9_600),
        (b'block_size="16",num_gpu_blocks="None",num_gpu_blocks_override="7"', UNKNOWN),
        (b'mamba_block_size="16",num_gpu_blocks="300"', UNKNOWN),
        (b'block_size="16",enable_prefix_caching="False",num_gpu_blocks="300"', 0),
        (b'block_size="16",num_gpu_blocks="%s"' % (b"9" * 40), UNKNOWN),
    ],
)
def test_the_room_for_prefixes_is_in_the_labels_of_the_cache(labels: bytes, tokens: int) -> None:
    info = b"vllm:num_requests_running 1\nvllm:cache_config_info{%s} 1.0" % labels
    assert told("vllm", info).cache_tokens == tokens  # the page's last line, were it cut off
    assert told("vllm", info + b"\nvllm:num_requests_waiting 2\n") == Load(1, 2, cache_tokens=tokens)


def test_a_sum_that_fits_no_ledger_is_not_known() -> None:
    page = b'vllm:prompt_tokens_total{engine="0"} 9e18\nvllm:prompt_tokens_total{engine="1"} 9e18\n'
    assert told("vllm", page) == NO_LOAD


@given(st.binary(max_size=400) | st.lists(st.sampled_from(VLLM.splitlines(keepends=True))).map(b"".join))
def test_no_page_breaks_the_reading(page: bytes) -> None:
    load = told("vllm", page)
    assert -1 <= load.prompt_tokens <= MOST
    assert -1 <= load.running <= MOST
    assert -1 <= load.cache_tokens <= MOST


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 2**40), min_size=1))
def test_counters_are_sums_over_engines(counts: dict[int, int]) -> None:
    page = "".join(f'n_total{{engine="{name}"}} {float(count)}\n' for name, count in counts.items())
    assert Page(prompt_tokens="n_total").read(page.encode()).prompt_tokens == sum(counts.values())
