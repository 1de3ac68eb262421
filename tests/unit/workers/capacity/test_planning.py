from __future__ import annotations

import dataclasses
import re

import pytest

from tests.unit.workers.capacity.models import DEEPSEEK_V2, LLAMA_3_8B, SCRIBE
from workers.capacity.configuration import from_config
from workers.capacity.gpus import TABLE, find, of_memory
from workers.capacity.memory import Settings
from workers.capacity.options import Option, Question, consider
from workers.capacity.parameter_count import from_count
from workers.capacity.planning import first_of_each, plan
from workers.capacity.quantizations import NAMES
from workers.capacity.serving import Bounds, Load
from workers.capacity.units import GB, GIB
from workers.errors import WrongUsage

FOUR_BITS = {"mixed", "w4a16", "nf4"}
A48 = of_memory(48 * GB, "48 GB")


def question(*models: str, gpus: tuple[str, ...] = (), **more: object) -> Question:
    asked = Question(
        models=[from_count(model) for model in models],
        gpus=[find(name) for name in gpus] or [A48],
        quantizations=NAMES,
        tensor_parallel=(1,),
        load=Load(512, 128),
    )
    return dataclasses.replace(asked, **more)  # pyright: ignore[reportArgumentType]


def fitting(asked: Question) -> set[str]:
    return {option.quantization for option in plan(asked).possible}


def test_rule_of_thumb_13b_fits_48_gb_unquantized() -> None:
    assert fitting(question("13B")) == set(NAMES)


def test_rule_of_thumb_8x7b_fits_48_gb_only_at_4_bits() -> None:
    assert fitting(question("8x7B")) == FOUR_BITS
    assert fitting(question("8x7B", gpus=("l40s",))) == FOUR_BITS


def test_rule_of_thumb_175b_needs_eight_gpus_of_48_gb_to_be_served_at_all() -> None:
    assert not fitting(question("175B"))
    assert fitting(question("175B", tensor_parallel=(8,))) == set(NAMES) - {"none"}
    (nothing,) = plan(question("175B")).recommended
    assert nothing.option is None


def by_name(options: tuple[Option, ...], quantization: str) -> Option:
    return next(option for option in options if option.quantization == quantization)


def test_what_does_not_fit_says_what_would() -> None:
    found = by_name(plan(question("8x7B")).impossible, "none")
    assert "weights 93.4 GB" in (found.problem or "")
    assert found.remedies == ("mixed", "4 GPUs (--tensor-parallel 4)")


def test_a_context_that_is_too_long_says_how_long_it_may_be() -> None:
    model = dataclasses.replace(from_config(LLAMA_3_8B, "llama", "c"), max_context=None)
    asked = question(gpus=("l4",), models=[model], context=60_000, quantizations=["none"])
    (found,) = plan(asked).impossible
    assert "60,000 tokens need" in (found.problem or "")
    shorter = next(remedy for remedy in found.remedies if "--context" in remedy)
    assert any("fp8" in remedy for remedy in found.remedies)
    context = int(re.findall(r"--context (\d+)", shorter)[0])
    assert plan(dataclasses.replace(asked, context=context)).possible
    assert not plan(dataclasses.replace(asked, context=context + 16)).possible


def test_every_remedy_is_one() -> None:
    asked = question("8x7B", "13B", "70B", gpus=("l4", "a100-40", "b200"), tensor_parallel=(1, 2))
    tried = 0
    for option in plan(asked).impossible:
        for remedy in option.remedies:
            changed = asked
            quantization, gpu, split = option.quantization, option.gpu, option.tensor_parallel
            if remedy in NAMES:
                quantization = remedy
            elif found := re.search(r"--tensor-parallel (\d+)", remedy):
                split = int(found[1])
            elif found := re.search(r"--context (\d+)", remedy):
                changed = dataclasses.replace(asked, context=int(found[1]))
            elif "--kv-cache-dtype" in remedy:
                changed = dataclasses.replace(asked, settings=Settings(kv_cache_bits=8))
            elif found := re.fullmatch(r"(?:(\d) × )?(.+)", remedy):
                split = int(found[1] or 1)
                gpu = next((known for known in TABLE.values() if known.title == found[2]), None) or pytest.fail(remedy)
            assert consider(changed, option.model, quantization, gpu, split).problem is None, remedy
            tried += 1
    assert tried > 20


def test_bounds_that_nothing_holds() -> None:
    found = plan(question("7B", gpus=("l4", "h100"), bounds=Bounds(ttft_seconds=0.002)))
    assert not found.possible
    assert all("even alone" in (option.problem or "") for option in found.impossible if option.fits)
    assert any("looser bounds" in remedy for option in found.impossible for remedy in option.remedies)


def test_bounds_that_only_some_hold_name_them() -> None:
    found = plan(question("7B", gpus=("l4",), bounds=Bounds(token_seconds=0.04), quantizations=["none"]))
    (option,) = found.impossible
    assert "a token takes" in (option.problem or "")
    assert option.remedies[0] in ("fp8", "w8a8")


def test_the_cheapest_is_recommended_and_the_most_bits_of_those_that_cost_the_same() -> None:
    found = plan(question("13B", gpus=("l40s", "a100-80", "h100"), load=Load(1024, 256, 2.0)))
    (recommended,) = found.recommended
    assert recommended.option is not None
    least = min(option.usd_per_million_tokens or 0 for option in found.possible)
    cost = recommended.option.usd_per_million_tokens
    assert cost is not None
    assert least <= cost <= least * 1.06
    as_cheap = [option for option in found.possible if (option.usd_per_million_tokens or 0) <= least * 1.04]
    ranks = [NAMES.index(option.quantization) for option in as_cheap]
    assert NAMES.index(recommended.option.quantization) <= min(ranks)
    assert "evaluate" in recommended.reason


def test_costs_and_replicas_add_up() -> None:
    for option in plan(question("13B", gpus=("l40s",), load=Load(1024, 256, 20.0), tensor_parallel=(1, 2))).possible:
        assert option.service is not None
        assert option.hourly_usd == pytest.approx(1.10 * option.tensor_parallel * option.service.replicas)
        per_hour = 20.0 * (1024 + 256) * 3600
        assert option.usd_per_million_tokens == pytest.approx((option.hourly_usd or 0) / per_hour * 1e6, rel=1e-3)


def test_of_memory_alone_the_most_bits_that_fit() -> None:
    found = plan(question("13B"))
    (recommended,) = found.recommended
    assert recommended.option is not None
    assert (recommended.option.quantization, recommended.option.tensor_parallel) == ("none", 1)


def test_each_model_has_its_recommendation() -> None:
    found = plan(question("7B", "8x7B", "175B", gpus=("l40s",)))
    assert [one.option is not None for one in found.recommended] == [True, True, False]
    assert [one.model.name for one in found.recommended] == ["7B", "8x7B", "175B"]


def test_a_given_cache_leaves_nothing_to_estimate() -> None:
    model = from_config(SCRIBE, "scribe", "c")
    asked = question(gpus=("cpu",), models=[model], settings=Settings(kv_cache_bytes=2**27))
    for option in plan(asked).possible:
        assert option.memory.cache.tokens(option.context) == 52_352
    too_much = dataclasses.replace(asked, settings=Settings(kv_cache_bytes=64 * GIB))
    found = plan(too_much)
    assert not found.possible
    assert "KV cache 68.7 GB" in (found.impossible[0].problem or "")


def test_blocks_are_as_large_as_the_engine_takes_them() -> None:
    for config, gpu, block_tokens in ((SCRIBE, "cpu", 128), (SCRIBE, "l4", 16), (DEEPSEEK_V2, "cpu", 16)):
        (option, *_) = plan(question(gpus=(gpu,), models=[from_config(config, "m", "c")])).possible
        assert option.memory.cache.block_tokens == block_tokens


def test_memory_adds_up() -> None:
    for option in plan(question("8x7B", gpus=("h100", "cpu"), tensor_parallel=(1, 2, 4))).possible:
        memory = option.memory
        total = memory.weights_bytes + memory.overhead_bytes + memory.kv_cache_bytes
        assert total == memory.usable_bytes == round(option.gpu.memory_bytes * 0.92)
        assert memory.cache.blocks * memory.cache.block_bytes <= memory.kv_cache_bytes


def test_a_quantized_checkpoint_is_planned_as_it_is() -> None:
    model = dataclasses.replace(from_config(SCRIBE, "scribe-int4", "c"), stored="w4a16", stored_group=128)
    assert fitting(question(models=[model])) == {"w4a16"}
    assert fitting(question(models=[model], quantizations=["w4a16", "fp8"])) == {"w4a16"}
    with pytest.raises(WrongUsage, match="is w4a16 already"):
        plan(question(models=[model], quantizations=["fp8"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"context": 4096}, "context of 2,048"),
        ({"load": Load(2000, 128)}, "context of 2,048"),
        ({"context": 600}, "do not go into a context of 600"),
    ],
)
def test_loads_that_no_request_can_be(change: dict[str, object], said: str) -> None:
    with pytest.raises(WrongUsage, match=said):
        plan(question(models=[from_config(SCRIBE, "scribe", "c")], **change))


def test_the_first_of_each_is_the_cheapest() -> None:
    found = plan(question("13B", gpus=("l40s", "h100"), tensor_parallel=(1, 2, 4, 8)))
    shown = first_of_each(found.possible)
    assert len(shown) == len({(option.quantization, option.gpu.name) for option in found.possible})
    for option in shown:
        others = [
            other.usd_per_million_tokens or 0
            for other in found.possible
            if (other.quantization, other.gpu.name) == (option.quantization, option.gpu.name)
        ]
        assert option.usd_per_million_tokens == pytest.approx(min(others), rel=0.01)
