"""What an engine says when something is wrong, read out of whatever shape it says it in.

Engines answer errors as `{"error": {...}}`, `{"error": "text"}`, a flat object, FastAPI's `{"detail": ...}`, plain
text, HTML from a proxy between, or nothing. All of them become a `Complaint` with tidy, bounded fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import orjson

MAX_MESSAGE_CHARS = 2_000
MAX_FIELD_CHARS = 200
MAX_BODY_BYTES = 1024 * 1024  # engines bound their own error bodies far below this

# Addresses are nobody's business outside: IP literals, localhost, and URLs that name a port or a cluster-internal host.
# URLs of the caller's own (an image on a public host) stay, as the message is about them.
_ADDRESS = re.compile(
    r"""\b(?:https?|wss?|tcp|grpc|zmq)://(?:
            \[[0-9a-f:.%]+\](?::\d+)?
          | [\w.-]+:\d+
          | [\w-]+(?=[/\s'"),]|$)
          | [\w.-]+\.(?:svc|local|internal|localdomain|lan)\b[\w.-]*
          | \d{1,3}(?:\.\d{1,3}){3}
        )[^\s'"<>),]*
      | \[(?:[0-9a-f]{0,4}:){2,}[0-9a-f.]*\](?::\d+)?
      | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b
      | \blocalhost(?::\d+)?\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CONTEXT_LENGTH = re.compile(
    r"maximum\ context\ length"
    r"|maximum\ model\ length"
    r"|exceeds\ the\ max_model_len"
    r"|model's\ context\ length"
    r"|context\ window"
    r"|max_seq_len|max_num_tokens"
    r"|`inputs`\ tokens\ \+\ `max_new_tokens`\ must\ be"
    r"|`inputs`\ must\ have\ less\ than",
    re.IGNORECASE | re.VERBOSE,
)


class Complaint(NamedTuple):
    """`message` is "" when the engine gave no readable reason; `code` is as the engine wrote it."""

    message: str = ""
    type: str = ""
    param: str | None = None
    code: str | int | None = None
    spoken: bool = True  # False when the body was not the engine's own JSON

    @property
    def is_context_length(self) -> bool:
        return self.code == "context_length_exceeded" or _CONTEXT_LENGTH.search(self.message) is not None


def read_body(body: bytes) -> Complaint:
    """The complaint in an error answer. Never raises."""
    if not body or len(body) > MAX_BODY_BYTES:
        return Complaint(spoken=not body)
    try:
        document: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Complaint(message=_prose(body), spoken=False)
    if isinstance(document, Mapping):
        return _read_object(cast("Mapping[str, Any]", document))
    return Complaint(message=tidy(document) if isinstance(document, str) else "", spoken=False)


def read_frame(frame: Mapping[str, Any]) -> Complaint | None:
    """The complaint in one event of a stream, or None for an ordinary event."""
    says_error = frame.get("object") == "error" or (frame.get("type") == "error" and "message" in frame)
    return _read_object(frame) if frame.get("error") or says_error else None


def tidy(text: str) -> str:
    """`text` without addresses and no longer than a person reads."""
    # Cut before the search as well, so that a hostile megabyte costs no more than a page.
    text = _ADDRESS.sub("<address>", text[: 2 * MAX_MESSAGE_CHARS]).strip()
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def _read_object(document: Mapping[str, Any]) -> Complaint:
    inner = document.get("error")
    if isinstance(inner, Mapping):
        return _fields(cast("Mapping[str, Any]", inner))
    if isinstance(inner, str) and inner:
        return Complaint(message=tidy(inner), type=_short(document.get("error_type")) or "")
    if "message" in document:
        return _fields(document)
    return Complaint(message=tidy(_detail(document.get("detail"))))


def _fields(found: Mapping[str, Any]) -> Complaint:
    message, code, param = found.get("message"), found.get("code"), _short(found.get("param"))
    if isinstance(code, bool) or not isinstance(code, int):
        code = _short(code)
    return Complaint(
        message=tidy(message) if isinstance(message, str) else "",
        type=_short(found.get("type")) or "",
        param=param.removeprefix("body.") if param else None,
        code=int(code) if isinstance(code, str) and code.isascii() and code.isdigit() else code,
    )


def _detail(detail: object) -> str:
    """FastAPI's `detail`: a sentence, or a list of what pydantic found."""
    if isinstance(detail, str):
        return detail
    if not isinstance(detail, list):
        return ""
    lines: list[str] = []
    for item in cast("list[object]", detail)[:10]:
        if isinstance(item, Mapping):
            found = cast("Mapping[str, object]", item)
            place = found.get("loc")
            where = ".".join(str(part) for part in cast("list[object]", place)[:8]) if isinstance(place, list) else ""
            lines.append(f"{where}: {found.get('msg')}" if where else str(found.get("msg")))
    return "; ".join(lines)


def _prose(body: bytes) -> str:
    """A plain-text reason; "" for HTML, broken JSON and bytes that are no text."""
    text = body.decode("utf-8", "replace").strip()
    is_prose = not text.startswith(("<", "{", "[")) and text.replace("\n", " ").isprintable() and "\ufffd" not in text
    return tidy(text) if is_prose else ""


def _short(value: object) -> str | None:
    return value[:MAX_FIELD_CHARS] if isinstance(value, str) and value else None
