"""The stand-in against answers captured from vLLM 0.32 (vllm_0_32.json): same keys in the same order, same nulls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.standin import Standin
from tests.unit.loadtests.client import Client, dialogue

CAPTURED = json.loads(Path(__file__).with_name("vllm_0_32.json").read_text())
# Values a client acts on are compared as they are; the rest by their type.
LITERAL = {"object", "type", "role", "code", "param", "message", "finish_reason", "stop_reason", "status", "owned_by"}
LITERAL |= {"reason", "detail", "version", "server_load", "content_index", "index", "sequence_number", "parent"}
REPEATED = {"tokens", "embedding"}


def skeleton(value: object, key: str = "") -> object:
    """What has to be equal between two answers: keys in order, types, nulls, and the values in LITERAL."""
    if isinstance(value, dict):
        return [(name, skeleton(item, name)) for name, item in value.items()]
    if isinstance(value, list):
        return type(value[0]).__name__ if key in REPEATED and value else [skeleton(item, key) for item in value]
    if value is None or isinstance(value, bool) or (key in LITERAL and not isinstance(value, dict)):
        return value
    return "number" if isinstance(value, int | float) else "text"


def events(stream: str) -> list[object]:
    """The events of a stream, those that only carry another token merged into one: a tokenizer is not a dialect."""
    merged: list[object] = []
    for block in stream.split("\n\n")[:-1]:
        *name, data = block.split("\n")
        payload = data.removeprefix("data: ")
        shape = payload if payload == "[DONE]" else skeleton(json.loads(payload))
        entry = [name, without_numbers(shape)]
        if not merged or merged[-1] != entry:
            merged.append(entry)
    return merged


def without_numbers(shape: object) -> object:
    if isinstance(shape, list):
        return [
            without_numbers(item) for item in shape if not (isinstance(item, tuple) and item[0] == "sequence_number")
        ]
    return (shape[0], without_numbers(shape[1])) if isinstance(shape, tuple) else shape


async def prepared(client: Client, name: str) -> None:
    if name in ("load adapter twice", "models with an adapter", "chat with the adapter", "unload adapter"):
        await client.ask("/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "adapters/a"})


@pytest.mark.parametrize("captured", CAPTURED, ids=[entry["name"] for entry in CAPTURED])
@dialogue
async def test_speaks_as_captured(captured: dict[str, object]) -> None:
    async with Standin(["bench", "bench-alias"], context=256) as worker, Client(worker.port) as client:
        await prepared(client, str(captured["name"]))
        reply = await client.ask(
            str(captured["path"]),
            captured["request"],
            method=str(captured["method"]),
            content_type=str(captured["request_type"]),
        )
        assert reply.status == captured["status"]
        assert reply.headers.get("content-type") == captured["content_type"]
        said, expected = reply.body.decode(), str(captured["answer"])
        if expected.startswith(("data:", "event:")):
            assert events(said) == events(expected)
            assert all(chunk.endswith(b"\n\n") and chunk.count(b"\n\n") == 1 for chunk in reply.chunks)
        elif expected.startswith("{"):
            assert skeleton(json.loads(said)) == skeleton(json.loads(expected))
            if "embedding" not in said:  # floats have more than one spelling
                assert said == json.dumps(json.loads(said), separators=(",", ":"), ensure_ascii=False)
        else:
            assert said == expected


@dialogue
async def test_answers_echo_the_name_vllm_would() -> None:
    async with Standin(["bench", "alias"], adapters=["tuned"]) as worker, Client(worker.port) as client:
        for asked, echoed in (("bench", "bench"), ("alias", "bench"), ("tuned", "tuned"), (None, "bench")):
            body = {"messages": [{"role": "user", "content": "hi"}]} | ({"model": asked} if asked else {})
            reply = await client.ask("/v1/chat/completions", body)
            assert json.loads(reply.body)["model"] == echoed


@dialogue
async def test_request_ids_become_answer_ids_without_breaking_the_framing() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        for given in ("req-1", "a" * 40):
            reply = await client.ask("/v1/chat/completions", body, headers={"x-request-id": given})
            first = json.loads(reply.chunks[0].removeprefix(b"data: "))
            assert first["id"] == f"chatcmpl-{given}"
            assert reply.chunks[-1] == b"data: [DONE]\n\n"


@dialogue
async def test_ids_are_never_given_twice() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        body = {"messages": [{"role": "user", "content": "hi"}]}
        ids = {json.loads((await client.ask("/v1/chat/completions", body)).body)["id"] for _ in range(5)}
        assert len(ids) == 5


@dialogue
async def test_usage_counts_prompt_bytes_and_generated_tokens() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        reply = await client.ask("/v1/completions", {"prompt": "héllo", "standin": {"tokens": 4, "cached_tokens": 3}})
        usage = json.loads(reply.body)["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (6, 4, 10)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 3
        assert json.loads(reply.body)["choices"][0]["finish_reason"] == "stop"


@dialogue
async def test_the_requests_own_limit_cuts_and_says_so() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        reply = await client.ask("/v1/completions", {"prompt": "x", "max_tokens": 3, "standin": {"tokens": 100}})
        answer = json.loads(reply.body)
        assert answer["usage"]["completion_tokens"] == 3
        assert answer["choices"][0]["finish_reason"] == "length"


@dialogue
async def test_a_stream_without_stream_options_carries_no_usage() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        assert b'"usage"' not in (await client.ask("/v1/chat/completions", body)).body
        reply = await client.ask("/v1/chat/completions", body | {"stream_options": {"include_usage": True}})
        with_usage = [chunk for chunk in reply.chunks if b'"usage"' in chunk]
        assert with_usage == [reply.chunks[-2]]
        assert json.loads(with_usage[0].removeprefix(b"data: "))["choices"] == []


@dialogue
async def test_detokenize_undoes_tokenize() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        tokens = json.loads((await client.ask("/tokenize", {"prompt": "näïve ✓"})).body)
        assert tokens["count"] == len(tokens["tokens"]) == len("näïve ✓".encode())
        reply = await client.ask("/detokenize", {"tokens": tokens["tokens"]})
        assert json.loads(reply.body) == {"prompt": "näïve ✓"}


@dialogue
async def test_metrics_count_what_happened() -> None:
    async with Standin(["bench"]) as worker, Client(worker.port) as client:
        await client.ask("/v1/completions", {"prompt": "12345", "standin": {"tokens": 7, "cached_tokens": 2}})
        worker.metrics.waiting, worker.metrics.kv_usage = 3, 0.25
        text = (await client.ask("/metrics", method="GET")).body.decode()
        samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        here = '{engine="0",model_name="bench"}'
        assert samples[f"vllm:prompt_tokens_total{here}"] == "5.0"
        assert samples[f"vllm:generation_tokens_total{here}"] == "7.0"
        assert samples[f"vllm:prefix_cache_hits_total{here}"] == "2.0"
        assert samples[f"vllm:num_requests_running{here}"] == "0.0"
        assert samples[f"vllm:num_requests_waiting{here}"] == "3.0"
        assert samples[f"vllm:kv_cache_usage_perc{here}"] == "0.25"
        assert samples['vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="bench"}'] == "1.0"


@dialogue
@pytest.mark.parametrize(
    ("body", "used", "counted"),
    [
        ({"prompt": "12345", "n": 3}, (5, 6), 15),
        ({"prompt": ["12345", "123"]}, (8, 4), 8),
        ({"prompt": ["12345", "123"], "n": 3}, (8, 12), 24),
    ],
)
async def test_a_prompt_is_counted_for_each_of_its_choices(
    body: dict[str, object], used: tuple[int, int], counted: int
) -> None:
    async with Standin(["bench"]) as worker, Client(worker.port) as client:
        usage = (await client.ask("/v1/completions", {**body, "standin": {"tokens": 2}})).json["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == used
        assert (worker.metrics.prompt_tokens, worker.metrics.generation_tokens) == (counted, used[1])


@dialogue
async def test_a_pooling_worker_does_not_chat_and_the_other_way_round() -> None:
    async with Standin(task="embed") as worker, Client(worker.port) as client:
        reply = await client.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
        assert (reply.status, reply.json) == (404, {"detail": "Not Found"})
    async with Standin(task="generate") as worker, Client(worker.port) as client:
        assert (await client.ask("/v1/embeddings", {"input": "x"})).status == 404


@dialogue
async def test_a_full_queue_refuses_as_vllm_does() -> None:
    async with Standin(max_queued=0) as worker, Client(worker.port) as client:
        reply = await client.ask("/v1/completions", {"prompt": "x"})
        assert reply.status == 503
        error = json.loads(reply.body)["error"]
        assert (error["type"], error["param"], error["code"]) == ("Service Unavailable", None, 503)
        assert error["message"].startswith("The engine is currently busy")
        assert "retry-after" not in reply.headers


@dialogue
async def test_ignore_eos_goes_on_to_the_limit() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        body = {"prompt": "x", "max_tokens": 40, "ignore_eos": True, "standin": {"tokens": 3}}
        answer = json.loads((await client.ask("/v1/completions", body)).body)
        assert answer["usage"]["completion_tokens"] == 40
        assert answer["choices"][0]["finish_reason"] == "length"
