"""A request's `metadata` as the ledger keeps it: what clients sort their bills by.

OpenAI's form is a mapping of strings to strings. LiteLLM's list `metadata.tags` is a set: each NAME in it becomes the
tag `tags:NAME` with the value "true". Whatever does not fit is left out here and still reaches the worker as it came.
"""

from __future__ import annotations

from typing import Any, cast

import orjson

# OpenAI's own bounds.
MOST_TAGS = 16
MOST_NAME_CHARS = 64
MOST_VALUE_CHARS = 512
MOST_LOOKED_AT = 64  # entries of a mapping or a list, so that a body of tags only costs no more than its parsing
LISTED = "tags:"


def read_tags(metadata: Any) -> str:
    """A JSON object with sorted keys, or "" when there is nothing to keep. Never raises."""
    if not isinstance(metadata, dict) or not metadata:
        return ""
    kept: dict[str, str] = {}
    looked_at = 0
    for name, value in cast("dict[str, Any]", metadata).items():
        looked_at += 1
        if looked_at > MOST_LOOKED_AT or len(kept) >= MOST_TAGS:
            break
        if isinstance(value, str):
            if _fits(name, MOST_NAME_CHARS) and len(value) <= MOST_VALUE_CHARS and "\0" not in value:
                kept[name] = value
        elif name == "tags" and isinstance(value, list):
            for item in cast("list[Any]", value)[:MOST_LOOKED_AT]:
                if len(kept) < MOST_TAGS and isinstance(item, str) and item and _fits(LISTED + item, MOST_NAME_CHARS):
                    kept[LISTED + item] = "true"
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode() if kept else ""


def _fits(name: str, most: int) -> bool:
    return 0 < len(name) <= most and "\0" not in name  # PostgreSQL keeps no NUL in a text
