"""What sets one engine's HTTP apart from vLLM's, around the same generation: its own paths, how a request names model
and adapter, what its errors look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loadtests.standin.dialect.shape import Json
from loadtests.standin.errors import Refusal

if TYPE_CHECKING:
    from loadtests.standin.engine import Answer, Engine, Reply, Request

Handler = Callable[["Engine", "Request"], "Reply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """`paths` come before vLLM's; `lacks` are those of vLLM's that it does not have. `read` puts a request body into
    vLLM's words, or raises the refusal. `event` is an error inside an open stream; None: the connection breaks."""

    paths: Mapping[str, tuple[str, Handler]] = field(default_factory=dict[str, tuple[str, Handler]])
    lacks: frozenset[str] = frozenset()
    read: Callable[[Engine, str, Json], Json] | None = None
    answer: Callable[[Refusal], Answer] | None = None
    event: Callable[[Refusal], bytes | None] = Refusal.frame


VLLM = Speech()
