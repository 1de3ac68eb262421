"""Sockets that clients connect to."""

from __future__ import annotations

import errno
import socket

import pytest

from gateway.listening import listen, listen_for_many


def test_a_port_may_be_shared_by_those_who_say_so() -> None:
    with listen("127.0.0.1", 0, shared=True) as one:
        port = one.getsockname()[1]
        with listen("127.0.0.1", port, shared=True) as two:
            assert two.getsockname()[1] == port


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for shared in (False, True):
            with pytest.raises(OSError, match="in use") as caught:
                listen("127.0.0.1", port, shared=shared)
            assert caught.value.errno == errno.EADDRINUSE


def test_an_ipv6_address() -> None:
    with listen("::1", 0, shared=False) as listener:
        assert listener.family == socket.AF_INET6
        assert listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_a_client_whose_machine_is_gone_is_asked_after() -> None:
    with listen("127.0.0.1", 0, shared=False) as listener:
        listener.setblocking(True)
        listener.listen()
        with socket.create_connection(listener.getsockname(), 10), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            between = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            assert idle + between * accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) <= 60


def test_many_listen_on_one_port() -> None:
    listeners = listen_for_many("127.0.0.1", 0, 3)
    ports = {listener.getsockname()[1] for listener in listeners}
    assert len(ports) == 1
    with socket.create_connection(("127.0.0.1", *ports), 10):
        pass
    for listener in listeners:
        listener.close()


def test_a_port_that_another_gateway_shares_with_itself_is_in_use_all_the_same() -> None:
    listeners = listen_for_many("127.0.0.1", 0, 2)
    port = listeners[0].getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        listen_for_many("127.0.0.1", port, 2)
    for listener in listeners:
        listener.close()
