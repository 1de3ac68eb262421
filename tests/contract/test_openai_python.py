"""The OpenAI Python SDK against the gateway and real vLLM: every call behaves as it does against OpenAI."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx2
import openai
import pytest
from openai import OpenAI

from tests.contract.conftest import KEY, OTHER_KEY, PATIENCE, Stack
from tests.eventually import promised

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

QUESTION = [{"role": "user", "content": "What does textwrap.dedent do?"}]
SQL_REQUEST = [{"role": "user", "content": "Show the name and price of all products with a price above 100."}]
LONG = {"model": "scribe", "messages": QUESTION, "max_tokens": 900, "extra_body": {"ignore_eos": True}}
IDLE_WITHIN = 1.0  # the promise: what a client cancels stops on the engine within a second


class TestGeneration:
    def test_chat(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(model="scribe", messages=QUESTION, max_tokens=24)
        assert answer.choices[0].message.role == "assistant"
        assert answer.choices[0].message.content
        assert answer.model == "scribe"
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 24
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer._request_id is not None
        assert answer._request_id.startswith("req_")

    def test_chat_by_an_alias_is_called_what_was_asked_for(self, client: OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=QUESTION, max_tokens=4)
        assert raw.parse().model == "gpt-4o"
        assert raw.headers["x-tollgate-model"] == "scribe@fp8"
        assert raw.headers["x-tollgate-worker"] == "chat"
        assert float(raw.headers["x-tollgate-cost-usd"]) > 0

    def test_stream_has_no_usage_unless_asked_for(self, client: OpenAI) -> None:
        chunks = list(client.chat.completions.create(model="gpt-4o", messages=QUESTION, max_tokens=12, stream=True))
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
        assert {chunk.model for chunk in chunks} == {"gpt-4o"}
        assert chunks[-1].choices[0].finish_reason in ("length", "stop")

    def test_stream_with_usage(self, client: OpenAI) -> None:
        chunks = list(
            client.chat.completions.create(
                model="scribe",
                messages=QUESTION,
                max_tokens=12,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens <= 12
        assert all(chunk.choices for chunk in chunks[:-1])

    def test_a_stream_and_a_whole_answer_say_the_same(self, client: OpenAI) -> None:
        options = {"model": "mini", "messages": QUESTION, "max_tokens": 24, "temperature": 0}
        whole = client.chat.completions.create(**options).choices[0].message.content
        streamed = client.chat.completions.create(**options, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole

    def test_completions_with_logprobs_n_and_stop(self, client: OpenAI) -> None:
        answer = client.completions.create(
            model="mini", prompt="import os\n", max_tokens=8, n=3, temperature=1.0, seed=7, logprobs=2
        )
        assert len(answer.choices) == 3
        assert answer.choices[0].logprobs is not None
        assert len(answer.choices[0].logprobs.token_logprobs or []) == answer.usage.completion_tokens / 3

    def test_chat_logprobs(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(
            model="mini", messages=QUESTION, max_tokens=3, logprobs=True, top_logprobs=2
        )
        assert answer.choices[0].logprobs is not None
        assert answer.choices[0].logprobs.content
        assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2

    def test_structured_output(self, client: OpenAI) -> None:
        schema = {
            "type": "object",
            "properties": {"size": {"type": "integer", "minimum": 0, "maximum": 99}, "kind": {"enum": ["a", "b"]}},
            "required": ["size", "kind"],
            "additionalProperties": False,
        }
        answer = client.chat.completions.create(
            model="scribe",
            messages=QUESTION,
            max_tokens=64,
            frequency_penalty=2.0,  # JSON allows any number of line breaks, and a small model likes them
            response_format={"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}},
        )
        thing = json.loads(answer.choices[0].message.content or "")
        assert set(thing) == {"size", "kind"}
        assert thing["kind"] in ("a", "b")

    def test_fields_only_the_engine_knows_pass_through(self, client: OpenAI) -> None:
        answer = client.completions.create(
            model="mini",
            prompt="def f(",
            max_tokens=6,
            extra_body={"min_tokens": 6, "ignore_eos": True, "top_k": 1, "return_token_ids": True},
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 6
        assert len(answer.choices[0].model_extra["token_ids"]) == 6

    def test_routing_preferences(self, client: OpenAI) -> None:
        kept = client.chat.completions.with_raw_response.create(
            model="scribe", messages=QUESTION, max_tokens=2, extra_body={"routing": {"quantizations": ["fp8"]}}
        )
        assert kept.headers["x-tollgate-model"] == "scribe@fp8"
        with pytest.raises(openai.BadRequestError, match="quantization"):
            client.chat.completions.create(
                model="scribe", messages=QUESTION, extra_body={"routing": {"quantizations": ["w4a16"]}}
            )

    def test_responses(self, client: OpenAI) -> None:
        answer = client.responses.create(model="gpt-4o", input="What does os.path.join do?", max_output_tokens=16)
        assert answer.output_text
        assert answer.model == "gpt-4o"
        assert answer.usage is not None
        assert answer.usage.output_tokens <= 16

    def test_responses_streamed(self, client: OpenAI) -> None:
        with client.responses.stream(model="gpt-4o", input="What does len do?", max_output_tokens=16) as stream:
            kinds = [event.type for event in stream]
        assert "response.output_text.delta" in kinds
        assert kinds[-1] in ("response.completed", "response.incomplete")

    def test_many_at_once(self, client: OpenAI) -> None:
        def ask(number: int) -> str:
            answer = client.chat.completions.create(
                model="mini", messages=[{"role": "user", "content": f"What is {number}?"}], max_tokens=16
            )
            return answer.choices[0].message.content or ""

        with ThreadPoolExecutor(16) as pool:
            assert len(list(pool.map(ask, range(48)))) == 48


class TestAdapters:
    def test_an_adapter_changes_the_answer(self, client: OpenAI) -> None:
        plain = client.chat.completions.create(model="scribe", messages=SQL_REQUEST, max_tokens=48, temperature=0)
        sql = client.chat.completions.create(model="scribe:sql", messages=SQL_REQUEST, max_tokens=48, temperature=0)
        assert (sql.choices[0].message.content or "").startswith("SELECT")
        assert not (plain.choices[0].message.content or "").startswith("SELECT")
        assert sql.model == "scribe:sql"

    def test_an_adapter_streams(self, client: OpenAI) -> None:
        chunks = list(
            client.chat.completions.create(
                model="scribe:sql", messages=SQL_REQUEST, max_tokens=48, temperature=0, stream=True
            )
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).startswith("SELECT")
        assert {chunk.model for chunk in chunks} == {"scribe:sql"}

    def test_an_adapter_of_another_tenant_is_forbidden(self, stack: Stack) -> None:
        with (
            OpenAI(base_url=f"{stack.url}/v1", api_key=OTHER_KEY, max_retries=0) as other,
            pytest.raises(openai.PermissionDeniedError) as refusal,
        ):
            other.chat.completions.create(model="scribe:support", messages=QUESTION)
        assert refusal.value.code == "model_not_allowed"


class TestOtherEndpoints:
    def test_embeddings(self, client: OpenAI) -> None:
        answer = client.embeddings.create(model="text-embedding-3-small", input=["a cat", "a dog"])
        assert [item.index for item in answer.data] == [0, 1]
        assert len(answer.data[0].embedding) == len(answer.data[1].embedding) > 16
        assert answer.model == "text-embedding-3-small"
        assert answer.usage.prompt_tokens > 0

    def test_score_and_rerank(self, stack: Stack) -> None:
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx2.Client(base_url=stack.url, headers=headers, timeout=PATIENCE) as http:
            score = http.post("/v1/score", json={"model": "embedder", "text_1": "a cat", "text_2": "a cat"})
            assert score.status_code == 200, score.text
            assert score.json()["data"][0]["score"] == pytest.approx(1.0, abs=0.01)
            body = {"model": "embedder", "query": "a cat", "documents": ["a cat", "def f(x): return x"]}
            rerank = http.post("/v1/rerank", json=body)
            assert rerank.status_code == 200, rerank.text
            assert rerank.json()["results"][0]["index"] == 0

    def test_tokenize_and_back(self, stack: Stack) -> None:
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx2.Client(base_url=stack.url, headers=headers, timeout=PATIENCE) as http:
            tokens = http.post("/tokenize", json={"model": "mini", "prompt": "import os", "add_special_tokens": False})
            assert tokens.status_code == 200, tokens.text
            back = http.post("/detokenize", json={"model": "mini", "tokens": tokens.json()["tokens"]})
            assert back.json()["prompt"] == "import os"

    def test_models(self, client: OpenAI) -> None:
        ids = {model.id for model in client.models.list()}
        assert {"scribe", "scribe@fp8", "scribe:sql", "mini", "gpt-4o", "embedder"} <= ids
        assert client.models.retrieve("scribe:sql").id == "scribe:sql"

    def test_an_endpoint_the_model_does_not_have(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="does not support"):
            client.embeddings.create(model="mini", input="a")


class TestErrors:
    def test_unknown_model(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as refusal:
            client.chat.completions.create(model="gpt-9", messages=QUESTION)
        assert refusal.value.code == "model_not_found"
        assert refusal.value.request_id

    def test_unknown_model_retrieved(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-9")

    def test_wrong_key(self, stack: Stack) -> None:
        with (
            OpenAI(base_url=f"{stack.url}/v1", api_key="sk-wrong", max_retries=0) as stranger,
            pytest.raises(openai.AuthenticationError) as refusal,
        ):
            stranger.chat.completions.create(model="scribe", messages=QUESTION)
        assert refusal.value.code == "invalid_api_key"

    def test_the_engine_says_what_is_wrong_with_a_parameter(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="temperature"):
            client.chat.completions.create(model="scribe", messages=QUESTION, temperature=-1)

    def test_a_prompt_longer_than_the_context(self, client: OpenAI) -> None:
        long = [{"role": "user", "content": "one two three " * 900}]
        with pytest.raises(openai.BadRequestError) as refusal:
            client.chat.completions.create(model="mini", messages=long)
        assert refusal.value.code == "context_length_exceeded"

    def test_an_error_of_a_stream_is_raised_before_it_begins(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="scribe", messages=QUESTION, max_tokens=-3, stream=True)


class TestLeaving:
    """A client that goes away: the engine is idle within a second, and what it had done is in the ledger."""

    def test_in_the_middle_of_a_stream(self, client: OpenAI, stack: Stack) -> None:
        stream = client.chat.completions.create(**LONG, stream=True)
        request_id = stream.response.headers["x-request-id"]
        for _, _ in zip(range(5), stream, strict=False):
            pass
        stream.close()
        _idle_within(stack, IDLE_WITHIN)
        line = stack.request_line(request_id)
        assert line["outcome"] == "aborted"
        assert line["estimated"] is True
        assert line["output_tokens"] >= 4
        assert line["cost_usd"] > 0

    def test_before_a_whole_answer(self, client: OpenAI, stack: Stack) -> None:
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.3).chat.completions.create(**LONG)
        _idle_within(stack, IDLE_WITHIN)

    @pytest.mark.parametrize("stream", [False, True], ids=["document", "stream"])
    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("/v1/chat/completions", {"messages": QUESTION, "max_tokens": 900}),
            ("/v1/completions", {"prompt": "import os\n", "max_tokens": 900}),
            ("/v1/messages", {"messages": QUESTION, "max_tokens": 900}),
            ("/v1/responses", {"input": "What does len do?", "max_output_tokens": 900}),
        ],
    )
    def test_on_every_api(self, path: str, said: dict[str, object], stream: bool, stack: Stack) -> None:
        body = {"model": "scribe", "stream": stream, "ignore_eos": True, **said}
        # Two of them take no ignore_eos: their answer may be over before the client has left.
        leaving = pytest.raises(httpx2.ReadTimeout) if "completions" in path else suppress(httpx2.ReadTimeout)
        with httpx2.Client(base_url=stack.url, headers={"authorization": f"Bearer {KEY}"}, timeout=PATIENCE) as http:
            if stream:
                with http.stream("POST", path, json=body) as answer:
                    assert answer.status_code == 200
                    next(answer.iter_raw())
            else:
                with leaving:
                    http.post(path, json=body, timeout=httpx2.Timeout(PATIENCE, read=0.1))
        _idle_within(stack, IDLE_WITHIN)


def _idle_within(stack: Stack, seconds: float) -> None:
    promised(lambda: stack.running_on("chat") == 0 or None, "the engine is idle after its client left", seconds)
