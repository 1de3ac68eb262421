from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.capacity.gpus import TABLE
from workers.capacity.parameter_count import from_count
from workers.capacity.roofline import Engine
from workers.capacity.serving import TARGET_LOAD, Bounds, Load, operate, serve

MODELS = {name: from_count(name) for name in ("7B", "8x7B")}
LOAD = Load(1024, 256)


def engine(model: str = "7B", quantization: str = "none", gpu: str = "a100-80", split: int = 1) -> Engine:
    return Engine(MODELS[model], quantization, TABLE[gpu], split, 16)


def test_a_token_alone_waits_for_the_weights_to_be_read() -> None:
    seconds = engine().decode_seconds(1, 1)
    assert seconds == pytest.approx(14e9 / (2039e9 * 0.7), rel=0.15)
    assert engine(quantization="w4a16").decode_seconds(1, 1) < seconds / 2.5


def test_a_prompt_waits_for_arithmetic() -> None:
    flops = 2 * 6.87e9 * 4096
    assert engine().prefill_seconds(4096) == pytest.approx(flops / (312e12 * 0.5), rel=0.15)
    assert engine(quantization="w8a8").prefill_seconds(4096) < 0.65 * engine().prefill_seconds(4096)
    assert engine(quantization="w4a16").prefill_seconds(4096) == engine().prefill_seconds(4096)


def test_gpus_share_the_work_and_pay_for_talking() -> None:
    one, two, four = (engine(split=split).decode_seconds(8, 1024) for split in (1, 2, 4))
    assert one > two > four > one / 4
    assert engine(gpu="l40s", split=8).prefill_seconds(4096) > engine(gpu="l40s").prefill_seconds(4096) / 6


def test_experts_cost_what_is_active() -> None:
    assert engine("8x7B").prefill_seconds(8192) < 2.2 * engine("7B").prefill_seconds(8192)
    assert engine("8x7B").decode_seconds(1, 1) < 0.4 * engine("8x7B").decode_seconds(64, 1)


@settings(deadline=None)
@given(
    st.sampled_from(["7B", "8x7B"]),
    st.sampled_from(["none", "fp8", "w4a16", "nf4"]),
    st.floats(0.0, 500.0),
    st.floats(0.01, 100.0),
)
def test_more_at_once_is_more_work_and_longer_waits(model: str, quantization: str, batch: float, more: float) -> None:
    built = engine(model, quantization)
    few, many = operate(built, LOAD, batch), operate(built, LOAD, batch + more)
    assert many.requests_per_second >= few.requests_per_second or quantization == "nf4"
    assert many.ttft_seconds >= few.ttft_seconds
    assert many.token_seconds >= few.token_seconds


@pytest.mark.parametrize("rate", [0.1, 3.0, 40.0, 1000.0])
def test_replicas_are_as_few_as_hold_the_bounds(rate: float) -> None:
    bounds = Bounds(ttft_seconds=0.4, token_seconds=0.05)
    service = serve(engine(), Load(1024, 256, rate), bounds, 100)
    assert service is not None
    for operation in (service.now, service.most, service.alone):
        assert not operation.misses(bounds)
    assert service.most.batch <= 100
    assert service.now.requests_per_second * service.replicas == pytest.approx(rate, rel=1e-3)
    able = TARGET_LOAD * service.most.requests_per_second
    assert service.replicas - 1 < rate / able <= service.replicas * (1 + 1e-9)


def test_tighter_bounds_take_more_replicas() -> None:
    found = [
        serve(engine(), Load(1024, 256, 50.0), Bounds(token_seconds=seconds), 256) for seconds in (0.1, 0.04, 0.02)
    ]
    replicas = [service.replicas for service in found if service is not None]
    assert replicas == sorted(replicas)
    assert replicas[0] < replicas[-1]


def test_what_is_too_slow_alone_is_too_slow() -> None:
    assert serve(engine(), LOAD, Bounds(ttft_seconds=0.001), 100) is None
    assert serve(engine(), LOAD, Bounds(token_seconds=0.001), 100) is None


def test_without_a_rate_one_replica_does_what_it_can() -> None:
    service = serve(engine(), LOAD, Bounds(), 50)
    assert service is not None
    assert service.replicas == 1
    assert service.requests_per_second == pytest.approx(TARGET_LOAD * service.most.requests_per_second, rel=1e-3)
