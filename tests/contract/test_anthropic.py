"""The Anthropic SDK against the gateway and real vLLM."""

from __future__ import annotations

import anthropic
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

QUESTION = [{"role": "user", "content": "What does textwrap.dedent do?"}]


def test_message(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(model="gpt-4o", messages=QUESTION, max_tokens=16)
    assert answer.role == "assistant"
    assert answer.content[0].type == "text"
    assert answer.model == "gpt-4o"
    assert 0 < answer.usage.output_tokens <= 16


def test_stream(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model="gpt-4o", messages=QUESTION, max_tokens=16) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text
    assert final.model == "gpt-4o"
    assert final.usage.output_tokens > 0


def test_unknown_model(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="claude-9", messages=QUESTION, max_tokens=4)


def test_wrong_key(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        claude.with_options(api_key="sk-wrong").messages.create(model="mini", messages=QUESTION, max_tokens=4)


def test_bad_parameter(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(model="mini", messages=QUESTION, max_tokens=-1)
