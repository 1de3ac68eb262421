"""Who has a port."""

from __future__ import annotations

import os
import socket

import pytest

from workers.supervisor.ports import why_taken


def test_a_free_port() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert why_taken(port) is None


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
)
def test_a_port_that_somebody_listens_on(family: int, address: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        taken = why_taken(port)
    assert taken is not None
    assert taken.startswith(f"port {port} is taken by pid {os.getpid()} (")
    assert "python" in taken


def test_connections_of_an_engine_that_ended_do_not_take_its_port() -> None:
    """An accepted connection closed by the server stays behind in TIME_WAIT; a restart must not trip over it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        listener.accept()[0].close()
    assert client.recv(1) == b""
    client.close()
    assert why_taken(port) is None
