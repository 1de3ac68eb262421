"""What the gateway must know of an engine's own ways. One small file per engine implements this; all are pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from gateway.engines.load import Load
from gateway.errors import GatewayError
from gateway.table import Adapter


class Dialect(Protocol):
    """How one engine names, refuses and reports things."""

    @property
    def health_path(self) -> str:
        """A GET here answers 200 when the engine lives and costs it no inference."""
        ...

    @property
    def salted_endpoints(self) -> frozenset[str]:
        """The endpoints (by name) whose body takes a `cache_salt` that keeps the prefix caches of tenants apart."""
        ...

    def select(self, body: dict[str, Any], engine_model: str, adapter: str | None) -> None:
        """Writes into a request body which model, and which adapter on it, the engine is to use."""
        ...

    def error(self, status: int, body: bytes) -> GatewayError:
        """Translates an answer with a status of 400 or more. Overload becomes `Overloaded`, the engine's judgement of
        the request `WorkerRefused` with the engine's message, anything else an `UpstreamError`."""
        ...

    def frame_error(self, frame: Mapping[str, Any]) -> GatewayError | None:
        """The error that one SSE data frame of a 200 stream carries, or None for an ordinary frame."""
        ...


@runtime_checkable
class TakesAdapterPaths(Protocol):
    """An engine that lists no adapters: each request brings the path of the one it wants."""

    def adapter_names(self, adapters: Mapping[str, Adapter]) -> Mapping[str, str]:
        """What to hand `select` as `engine_model` for each adapter."""
        ...


class Order(NamedTuple):
    """What to POST: `body` as JSON."""

    path: str
    body: dict[str, Any]


@runtime_checkable
class PlacesAdapters(Protocol):
    """An engine that loads and unloads adapters while it runs. What is asked for twice is done already."""

    def load_adapter(self, name: str, path: str) -> Order:
        """`path` is read by the engine, on its own disk. Another path under the same name may leave the engine's prefix
        cache stale: a new version needs a new name."""
        ...

    def unload_adapter(self, name: str) -> Order: ...

    def load_refusal(self, status: int, body: bytes) -> str | None:
        """Why the adapter is not there after the answer to such an order; None when it is."""
        ...

    def unload_refusal(self, status: int, body: bytes) -> str | None:
        """Why it is there still; None when it is not."""
        ...


@runtime_checkable
class TellsLoad(Protocol):
    """An engine with a page of metrics."""

    @property
    def load_path(self) -> str:
        """A GET here answers with that page, and takes nothing away from who else reads it."""
        ...

    def load(self, page: bytes) -> Load:
        """What the page says. Never raises."""
        ...
