"""The data-plane endpoints: what each one is called and how its answers are framed."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Body = Literal["json", "multipart"]


class Endpoint(NamedTuple):
    """One POST path that is relayed to workers by its `model` field."""

    name: str  # as in logs, metrics and the ledger
    path: str
    task: Literal["generate", "embed", "any"]
    streams: bool = False
    usage_on_request: bool = False  # a stream carries usage only with stream_options.include_usage
    terminal: tuple[bytes, ...] = ()  # bytes that announce a possible terminal event
    terminal_types: frozenset[str] = frozenset()  # event types that end the stream; [DONE] always does
    token_mark: bytes = b""  # bytes that stand once in each event that brings a token; empty where every event does
    opened: bool = False  # by an event for each choice, which brings none
    many: bool = False  # `n` asks for several choices; elsewhere engines pass over it
    error_event_type: bool = False  # errors in a stream are named events
    deterministic: bool = False  # the same body always gets the same answer
    body: Body = "json"


_DONE = (b"[DONE]",)

_ALL = (
    Endpoint("chat.completions", "/v1/chat/completions", "generate", True, True, _DONE, opened=True, many=True),
    Endpoint("completions", "/v1/completions", "generate", True, True, _DONE, many=True),
    Endpoint(
        "responses",
        "/v1/responses",
        "generate",
        streams=True,
        terminal=(b"[DONE]", b"response.completed", b"response.incomplete", b"response.failed"),
        terminal_types=frozenset({"response.completed", "response.incomplete", "response.failed"}),
        token_mark=b'.delta"',  # response.output_text.delta, response.reasoning_text.delta, ...: the event's `type`
        error_event_type=True,
    ),
    Endpoint(
        "messages",
        "/v1/messages",
        "generate",
        streams=True,
        terminal=(b"[DONE]", b"message_stop"),
        terminal_types=frozenset({"message_stop"}),
        token_mark=b'"content_block_delta"',
        error_event_type=True,
    ),
    Endpoint("embeddings", "/v1/embeddings", "embed", deterministic=True),
    Endpoint("rerank", "/v1/rerank", "any", deterministic=True),
    Endpoint("score", "/v1/score", "any", deterministic=True),
    Endpoint("audio.transcriptions", "/v1/audio/transcriptions", "any", streams=True, terminal=_DONE, body="multipart"),
    Endpoint("audio.translations", "/v1/audio/translations", "any", streams=True, terminal=_DONE, body="multipart"),
    Endpoint("tokenize", "/tokenize", "any", deterministic=True),
    Endpoint("detokenize", "/detokenize", "any", deterministic=True),
)

ENDPOINTS: Final[dict[str, Endpoint]] = {endpoint.path: endpoint for endpoint in _ALL}
