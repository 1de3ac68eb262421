"""Everything around generation: models, adapters, tokens, speech, health and counters."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import cast

import orjson

from loadtests.standin import reading
from loadtests.standin.behaviour import INSTANT
from loadtests.standin.engine import Answer, Engine, Reply, Request
from loadtests.standin.errors import Refusal, malformed, missing
from loadtests.standin.tokens import chat_text, count_prompt, decode, encode, flat_text


def _document(document: object) -> Answer:
    return Answer(200, orjson.dumps(document))


def models(engine: Engine, request: Request) -> Reply:
    return _document(engine.models.listing())


def load_adapter(engine: Engine, request: Request) -> Reply:
    body = reading.json(request)
    for name in ("lora_name", "lora_path"):
        if name not in body:
            raise missing(name, body)
    in_place = bool(body.get("load_inplace"))
    said = engine.models.load(str(body["lora_name"]), str(body["lora_path"]), in_place=in_place)
    delay = engine.models.load_delay
    return Answer(200, said.encode(), None, behaviour=replace(INSTANT, header_delay=delay) if delay else None)


def unload_adapter(engine: Engine, request: Request) -> Reply:
    body = reading.json(request)
    if "lora_name" not in body:
        raise missing("lora_name", body)
    return Answer(200, engine.models.unload(str(body["lora_name"])).encode(), None)


def tokenize(engine: Engine, request: Request) -> Reply:
    body = reading.json(request)
    engine.models.resolve(body.get("model"))
    if isinstance(prompt := body.get("prompt"), str):
        tokens = encode(prompt)
    elif (messages := body.get("messages")) is not None:
        tokens = encode(chat_text(messages))
    else:
        raise missing("prompt", body)
    strings = [decode([token]) for token in tokens] if body.get("return_token_strs") else None
    answer = {"count": len(tokens), "max_model_len": engine.models.context, "tokens": tokens, "token_strs": strings}
    return _document(answer)


def detokenize(engine: Engine, request: Request) -> Reply:
    body = reading.json(request)
    engine.models.resolve(body.get("model"))
    tokens = body.get("tokens")
    if tokens is None:
        raise missing("tokens", body)
    if not isinstance(tokens, list):
        raise malformed("list_type", "body.tokens", "Input should be a valid list", tokens)
    return _document({"prompt": decode([token for token in cast("list[object]", tokens) if isinstance(token, int)])})


def health(engine: Engine, request: Request) -> Reply:
    return Answer(200 if engine.healthy else 503, b"", None)


def metrics(engine: Engine, request: Request) -> Reply:
    text = engine.metrics.text(engine.models.names[0], engine.running)
    return Answer(200, text, b"text/plain; version=1.0.0; charset=utf-8")


def load(engine: Engine, request: Request) -> Reply:
    return _document({"server_load": engine.metrics.active})


def set_behaviour(engine: Engine, request: Request) -> Reply:
    """Not vLLM's: PUT what requests get that ask for nothing, for a load test whose relays drop unknown fields."""
    try:
        engine.behaviour = INSTANT.changed(reading.json(request))
    except ValueError as error:
        raise Refusal(400, f"standin: {error}") from None
    return _document(asdict(engine.behaviour))


def version(engine: Engine, request: Request) -> Reply:
    return _document({"version": "0.32.0"})


def count_message_tokens(engine: Engine, request: Request) -> Reply:
    body = reading.json(request)
    if body.get("messages") is None:
        raise missing("messages", body)
    count = count_prompt(flat_text(body.get("system")) + chat_text(body["messages"]))
    return _document({"input_tokens": count, "context_management": {"original_input_tokens": count}})


_FORM_MODEL = re.compile(rb'name="model"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n')


def transcription(engine: Engine, request: Request) -> Reply:
    """Speech endpoints take multipart forms; only the model field is looked at."""
    if not request.content_type.lower().startswith("multipart/form-data"):
        raise missing("file", {})
    found = _FORM_MODEL.search(request.body)
    engine.models.resolve(found[1].decode("utf-8", "replace") if found else None)
    behaviour = reading.behaviour(engine, request, {})
    text = "".join(("The", " words", " that", " were", " said", "."))
    document = {"text": text, "usage": {"type": "duration", "seconds": 1}}
    return Answer(200, orjson.dumps(document), tokens=6, behaviour=behaviour)
