"""Ports for servers that a test starts later, or twice."""

from __future__ import annotations

import socket


def reserved_port(host: str = "127.0.0.1") -> int:
    """A port on which nobody listens and which the kernel gives to nobody else: a bound socket that never listens keeps
    it as long as the tests run. A server that sets SO_REUSEADDR, as all do, can listen there all the same."""
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind((host, 0))
        port: int = keeper.getsockname()[1]
        keeper.detach()
    return port
