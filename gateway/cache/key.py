"""What makes two requests the same, and which may be answered from the cache at all."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, cast

import orjson

# What cannot change the answer. `stream` is not among them: a stream and a document are different bytes.
_NEVER_IN_THE_ANSWER: Final = frozenset(
    {
        "model",  # what served it stands in the key, and a replay is renamed to what its client asked for
        "routing",  # chose what served it
        "cache_salt",  # keeps prefix caches apart; the scope does that here
    }
)
_LABELS: Final = frozenset(
    {
        "user",
        "safety_identifier",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "priority",
    }
)
# The Responses API echoes the request's labels in its answer, so there they are part of it.
_ECHOING_ENDPOINTS: Final = frozenset({"responses"})
# Tools that the client runs itself; any other kind (web search, code) makes the engine look at a changing world.
_CLIENT_TOOLS: Final = frozenset({"function", "custom", None})
_STATEFUL: Final = ("store", "background", "previous_response_id", "conversation", "web_search_options")


def cache_key(scope: str, served: str, adapter: str, endpoint: str, body: Mapping[str, Any]) -> bytes:
    """32 bytes for one request: who may see the answer, which model version and adapter made it, and what was asked.

    The body is taken in canonical form: neither the order of its fields nor its white space matters.
    """
    ignored = _NEVER_IN_THE_ANSWER if endpoint in _ECHOING_ENDPOINTS else _NEVER_IN_THE_ANSWER | _LABELS
    asked = {name: value for name, value in body.items() if name not in ignored}
    options = asked.get("stream_options")
    if isinstance(options, dict):
        # A kept stream has its usage event, which a replay leaves out where it was not asked for. The other options
        # (usage in every event, padding) change the events themselves.
        rest = {name: value for name, value in cast("dict[str, Any]", options).items() if name != "include_usage"}
        if rest:
            asked["stream_options"] = rest
        else:
            del asked["stream_options"]
    elif options is None:
        asked.pop("stream_options", None)
    canonical = orjson.dumps([scope, served, adapter, endpoint, asked], option=orjson.OPT_SORT_KEYS)
    return blake2b(canonical, digest_size=32, person=b"tollgate.cache.1").digest()


def is_deterministic(body: dict[str, Any]) -> bool:
    """Whether a generation request gets the same answer every time: temperature 0 or a seed, and no state or tool of
    the engine's own behind it."""
    temperature, seed = body.get("temperature"), body.get("seed")
    is_greedy = (type(temperature) is int or type(temperature) is float) and temperature == 0
    is_seeded = type(seed) is int
    if not (is_greedy or is_seeded) or any(body.get(name) for name in _STATEFUL):
        return False
    tools = body.get("tools")
    return not isinstance(tools, list) or all(_is_client_tool(tool) for tool in cast("list[object]", tools))


def _is_client_tool(tool: object) -> bool:
    if not isinstance(tool, Mapping):
        return False
    kind = cast("Mapping[str, object]", tool).get("type")
    return (kind is None or isinstance(kind, str)) and kind in _CLIENT_TOOLS
