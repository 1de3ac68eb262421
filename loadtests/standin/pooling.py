"""Embeddings, scores and rankings."""

from __future__ import annotations

import base64
import struct
import time
from typing import cast

import orjson

from loadtests.standin import reading
from loadtests.standin.dialect.shape import Json, Shape
from loadtests.standin.engine import Answer, Engine, Reply, Request
from loadtests.standin.errors import Refusal, missing
from loadtests.standin.tokens import count_prompt, encode

EMBEDDING_WIDTH = 16


def _pooled_usage(tokens: int) -> Json:
    usage: Json = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    return usage | {"prompt_tokens_details": None, "completion_tokens_details": None}


def _pooled(engine: Engine, request: Request, body: Json, kind: str, tokens: int, document: Json) -> Reply:
    """The common frame of a pooling answer around what is particular to it."""
    behaviour = reading.behaviour(engine, request, body)
    ident = reading.ident(request)
    shape = Shape(engine.models.resolve(body.get("model")), tokens)
    engine.admit(behaviour, shape)
    head: Json = {"id": f"{kind}-{ident}", "object": "list", "created": int(time.time()), "model": shape.model}
    return Answer(200, orjson.dumps(head | document), behaviour=behaviour)


def _vector(text: str) -> list[float]:
    """A fixed unit vector per text: equal texts embed equally, which is all a test can ask of a stand-in."""
    raw = [((hash_byte * 37 + i * 101) % 255) / 127.5 - 1.0 for i, hash_byte in enumerate(_spread(text))]
    length = sum(x * x for x in raw) ** 0.5 or 1.0
    return [x / length for x in raw]


def _spread(text: str) -> list[int]:
    sums = [0] * EMBEDDING_WIDTH
    for position, byte in enumerate(encode(text)):
        sums[position % EMBEDDING_WIDTH] += byte
    return sums


def embeddings(engine: Engine, request: Request) -> Reply:
    body = reading.json(request)
    given = body.get("input")
    if given is None:
        raise missing("input", body)
    items = cast("list[object]", given) if isinstance(given, list) else [given]
    if all(isinstance(item, int) for item in items):
        items = [items]  # one text, as token ids
    vectors = [_vector(str(item)) for item in items]
    packed = body.get("encoding_format") == "base64"
    data = [
        {"index": i, "object": "embedding", "embedding": _pack(vector) if packed else vector}
        for i, vector in enumerate(vectors)
    ]
    tokens = count_prompt(body["input"])
    return _pooled(engine, request, body, "embd", tokens, {"data": data, "usage": _pooled_usage(tokens)})


def _pack(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _similarity(a: str, b: str) -> float:
    return sum(x * y for x, y in zip(_vector(a), _vector(b), strict=True))


def score(engine: Engine, request: Request) -> Reply:
    body = reading.json(request)
    left, right = body.get("text_1", body.get("queries")), body.get("text_2", body.get("documents"))
    if left is None or right is None:
        raise missing("text_1" if left is None else "text_2", body)
    pairs = _pairs(left, right)
    data = [{"index": i, "object": "score", "score": _similarity(a, b)} for i, (a, b) in enumerate(pairs)]
    tokens = sum(len(encode(a)) + len(encode(b)) for a, b in pairs)
    return _pooled(engine, request, body, "score", tokens, {"data": data, "usage": _pooled_usage(tokens)})


def _pairs(left: object, right: object) -> list[tuple[str, str]]:
    ones = [str(x) for x in cast("list[object]", left)] if isinstance(left, list) else [str(left)]
    twos = [str(x) for x in cast("list[object]", right)] if isinstance(right, list) else [str(right)]
    if len(ones) == 1:
        ones *= len(twos)
    if len(ones) != len(twos):
        raise Refusal(400, "Input lengths must be either 1:1, 1:N or N:N", type="BadRequestError")
    return list(zip(ones, twos, strict=True))


def rerank(engine: Engine, request: Request) -> Reply:
    body = reading.json(request)
    for name in ("query", "documents"):
        if body.get(name) is None:
            raise missing(name, body)
    pairs = _pairs(body["query"], body["documents"])
    results = [
        {"index": i, "document": {"text": text, "multi_modal": None}, "relevance_score": _similarity(query, text)}
        for i, (query, text) in enumerate(pairs)
    ]
    results.sort(key=lambda result: cast(float, result["relevance_score"]), reverse=True)
    top = reading.limit(body, "top_n") or len(results)
    tokens = sum(len(encode(a)) + len(encode(b)) for a, b in pairs)
    behaviour = reading.behaviour(engine, request, body)
    model = engine.models.resolve(body.get("model"))
    engine.admit(behaviour, Shape(model, tokens))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    document = {"id": f"score-{reading.ident(request)}", "model": model, "usage": usage}
    return Answer(200, orjson.dumps(document | {"results": results[:top]}), behaviour=behaviour)
