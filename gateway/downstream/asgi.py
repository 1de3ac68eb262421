"""The control plane's requests: what uvicorn makes of one for an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from gateway.downstream.flow import Flow

_logger = logging.getLogger("uvicorn.error")
_access_logger = logging.getLogger("uvicorn.access")


def cycle_of(
    config: Config,
    transport: asyncio.Transport,
    flow: Flow,
    state: dict[str, Any],
    *,
    version: str,
    method: str,
    path: bytes,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    default_headers: list[tuple[bytes, bytes]],
    expect_100_continue: bool,
    keep_alive: bool,
    on_response: Callable[[], None],
) -> RequestResponseCycle:
    """A request and the answer to it, as uvicorn's own connection makes them (`protocols/http/httptools_impl.py`)."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": config.asgi_version, "spec_version": "2.3"},
        "http_version": version,
        "server": get_local_addr(transport),
        "client": get_remote_addr(transport),
        "scheme": "https" if is_ssl(transport) else "http",
        "method": method,
        "root_path": config.root_path,
        "path": config.root_path + urllib.parse.unquote(path.decode("ascii")),
        "raw_path": config.root_path.encode("ascii") + path,
        "query_string": query,
        "headers": headers,
        "state": state.copy(),
    }
    return RequestResponseCycle(
        scope=scope,  # type: ignore[arg-type]
        transport=transport,
        flow=flow,  # type: ignore[arg-type]
        logger=_logger,
        access_logger=_access_logger,
        access_log=False,
        default_headers=default_headers,
        message_event=asyncio.Event(),
        expect_100_continue=expect_100_continue,
        keep_alive=keep_alive,
        on_response=on_response,
    )
