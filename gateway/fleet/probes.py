"""One look at one worker: is it alive, what does it serve, does it answer. The only importer of httpx2 in the fleet.

Each probe opens a connection of its own: that a new request gets through is what is being asked.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Collection, Mapping
from typing import Any

import httpx2
import orjson

from gateway.engines.dialect import Dialect, Order, TakesAdapterPaths, TellsLoad
from gateway.engines.load import NO_LOAD, Load
from gateway.errors import WorkerRefused
from gateway.fleet.listing import Listed, NotListed, read_listing
from gateway.protocol.usage import Usage, find_usage
from gateway.routing.types import WorkerView
from gateway.table import Model, Worker

MODELS_PATH = "/v1/models"
MAX_ANSWER_BYTES = 4 * 1024 * 1024
# The first inference of a fresh engine compiles and warms up; it may take this many times a probe's patience.
INFERENCE_PATIENCE = 6
# Endpoints that answer requests without listing models exist; the operator has then said what to ask for.
_NO_LISTING = frozenset({404, 405, 501})


class ProbeFailed(Exception):
    """The message says what was wrong, without the worker's address. `cut_off`: the worker may still have gone on, or
    have done the work and not got it across."""

    def __init__(self, message: str, *, cut_off: bool = False) -> None:
        super().__init__(message)
        self.cut_off = cut_off


class Clients:
    """One client for all workers that one authority vouches for; None is the system's authorities."""

    def __init__(self) -> None:
        self._clients: dict[str | None, httpx2.AsyncClient] = {}

    def trusting(self, ca: str | None) -> httpx2.AsyncClient:
        client = self._clients.get(ca)
        if client is None:
            client = self._clients[ca] = _open_client(ca)
        return client

    def retain(self, authorities: Collection[str | None]) -> None:
        """Forgets the clients of others; they hold nothing between two probes."""
        self._clients = {ca: client for ca, client in self._clients.items() if ca in authorities}

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


def _open_client(ca: str | None) -> httpx2.AsyncClient:
    """No proxy and no redirect: a worker is where the configuration says it is."""
    return httpx2.AsyncClient(
        verify=ssl.create_default_context(cadata=ca),
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # each probe is bounded as a whole
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        headers={"accept-encoding": "identity"},
    )


class Prober:
    """Probes the worker behind one view. `wait` bounds each request in seconds. All methods raise `ProbeFailed`."""

    def __init__(self, client: httpx2.AsyncClient, view: WorkerView, dialect: Dialect) -> None:
        self._client = client
        self._view = view
        self._dialect = dialect

    @property
    def _worker(self) -> Worker:
        return self._view.worker  # whose prices and limits change under it

    @property
    def lists_as_health(self) -> bool:
        """Whether the model list is what tells that this engine lives."""
        return self._dialect.health_path == MODELS_PATH

    async def health(self, wait: float) -> None:
        status, _ = await self._ask("GET", self._dialect.health_path, None, wait)
        if status != 200:
            raise ProbeFailed(f"its health check answered HTTP {status}")

    async def listing(self, model: Model, wait: float) -> Listed:
        """What it serves, by its own word and by the configuration of `model`."""
        status, answer = await self._ask("GET", MODELS_PATH, None, wait)
        worker = self._worker
        if status in _NO_LISTING and worker.serves_as:
            return Listed(worker.serves_as, self._adapters_by_path(model))
        if status in (401, 403):
            raise ProbeFailed(f"it does not accept the gateway's key (HTTP {status}): check the worker's `api_key`")
        if status != 200:
            raise ProbeFailed(f"its model list answered HTTP {status}")
        try:
            listed = read_listing(orjson.loads(answer), worker, model.adapters)
        except orjson.JSONDecodeError:
            raise ProbeFailed("its model list is not JSON") from None
        except NotListed as error:
            raise ProbeFailed(str(error)) from None
        return listed._replace(adapters={**listed.adapters, **self._adapters_by_path(model)})

    @property
    def infers(self) -> bool:
        """Whether it may be asked to do something for nothing: hosted endpoints charge for it."""
        return self._worker.engine != "openai"

    async def inference(self, model: Model, base_name: str, wait: float) -> Usage | None:
        """The least a worker can be asked to do: one token, or one embedding. What it came to; None when it does not
        say, or has done nothing."""
        if inference_endpoint(model) == "embeddings":
            path, body = "/v1/embeddings", {"input": "a"}
        else:
            path, body = "/v1/completions", {"prompt": "a", "max_tokens": 1, "temperature": 0}
        self._dialect.select(body, base_name, None)
        status, answer = await self._ask("POST", path, body, INFERENCE_PATIENCE * wait)
        if status == 200:
            return find_usage(answer)
        error = self._dialect.error(status, answer)
        if isinstance(error, WorkerRefused) and error.code == "unsupported_endpoint":
            return None  # a transcription or scoring model: it has no endpoint that a probe could try
        notes = ": ".join([error.message, *getattr(error, "__notes__", [])])
        raise ProbeFailed(f"a minimal inference failed (HTTP {status}): {notes}")

    async def order(self, order: Order, wait: float) -> tuple[int, bytes]:
        """Status and answer of what it is told to do."""
        return await self._ask("POST", order.path, order.body, wait)

    async def load(self, wait: float) -> Load:
        """What its page of metrics says; nothing where the engine has none."""
        if not isinstance(self._dialect, TellsLoad):
            return NO_LOAD
        status, page = await self._ask("GET", self._dialect.load_path, None, wait)
        if status != 200:
            raise ProbeFailed(f"its page of metrics answered HTTP {status}")
        return self._dialect.load(page)

    def _adapters_by_path(self, model: Model) -> Mapping[str, str]:
        if isinstance(self._dialect, TakesAdapterPaths) and self._worker.max_loras:
            return self._dialect.adapter_names(model.adapters)
        return {}

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None, wait: float) -> tuple[int, bytes]:
        url = endpoint(self._worker.url, path)
        content, headers = None, dict[str, str]()
        if body is not None:
            content, headers["content-type"] = orjson.dumps(body), "application/json"
        if self._worker.api_key:
            headers["authorization"] = f"Bearer {self._worker.api_key}"
        try:
            async with asyncio.timeout(wait), self._client.stream(method, url, content=content, headers=headers) as got:
                parts: list[bytes] = []
                size = 0
                async for part in got.aiter_raw():
                    parts.append(part)
                    size += len(part)
                    if size > MAX_ANSWER_BYTES:
                        raise ProbeFailed(f"it answered {path} with more than {MAX_ANSWER_BYTES} bytes")
                return got.status_code, b"".join(parts)
        except TimeoutError:
            raise ProbeFailed(f"it did not answer {path} within {wait:g} s", cut_off=True) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            cut_off = not isinstance(error, httpx2.ConnectError | httpx2.InvalidURL)
            raise ProbeFailed(_why(error, path), cut_off=cut_off) from error


def inference_endpoint(model: Model) -> str:
    """The name, as in the ledger, of what `inference` asks of a worker of this model."""
    return "embeddings" if model.task == "embed" else "completions"


def endpoint(url: str, path: str) -> str:
    """The address of `path`; a base URL that ends in `/v1` takes the place of that prefix."""
    base = url.removeprefix("dns+").rstrip("/")
    return base + (path.removeprefix("/v1") if base.endswith("/v1") else path)


def _why(error: BaseException, path: str) -> str:
    """The system's own words at the root of a transport error, which name no address."""
    if isinstance(error, httpx2.ConnectError):
        root: BaseException | None = error
        while root is not None:
            if isinstance(root, ssl.SSLCertVerificationError):
                # The system's words, but for those that repeat the address.
                why = "it has another name" if "mismatch" in root.verify_message else root.verify_message
                return f"its TLS certificate is refused: {why}"
            if isinstance(root, ssl.SSLError):
                return f"its TLS is refused ({root.reason or 'SSLError'})"
            if isinstance(root, OSError) and root.errno is not None and root.errno > 0:
                return f"it cannot be reached ({os.strerror(root.errno)})"
            root = root.__cause__ or root.__context__
        return "it cannot be reached"
    if isinstance(error, httpx2.LocalProtocolError | httpx2.InvalidURL):
        return "no request can be made of its settings: check the worker's `url` and `api_key`"
    return f"it broke off its answer to {path} ({type(error).__name__})"
