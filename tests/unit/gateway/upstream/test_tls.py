"""TLS to a worker: only to the one whose certificate a trusted authority gave to its name."""

from __future__ import annotations

import ssl

import pytest

from gateway.errors import WorkerBroke, WorkerUnreachable
from gateway.upstream.pool import Pool
from tests.certificates import Authority
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.upstream.loopback import CHUNKED, Peer, Worker, ask, chunk, post, until
from tests.unit.gateway.upstream.test_pool import serve_forever


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def at_worker(authority: Authority) -> ssl.SSLContext:
    return authority.server("DNS:localhost")


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.ca)


@dialogue
async def test_a_worker_that_proves_its_name_is_talked_to(at_worker: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with Worker(serve_forever, tls=at_worker) as worker:
        pool = Pool(f"https://localhost:{worker.port}", tls=trusting)
        assert [await ask(pool) for _ in range(3)] == [b"ok"] * 3
        assert len(worker.peers) == 1
        await pool.close()
        await until(lambda: pool.connections == 0)


@dialogue
async def test_a_worker_with_another_name_is_not(at_worker: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with Worker(serve_forever, tls=at_worker) as worker:
        pool = Pool(f"https://127.0.0.1:{worker.port}", tls=trusting)
        with pytest.raises(WorkerUnreachable, match="SSLCertVerificationError"):
            await ask(pool)
        assert pool.connections == 0


@dialogue
async def test_a_worker_that_nobody_trusted_vouches_for_is_not(at_worker: ssl.SSLContext) -> None:
    async with Worker(serve_forever, tls=at_worker) as worker:
        pool = Pool(f"https://localhost:{worker.port}")
        with pytest.raises(WorkerUnreachable, match="SSLCertVerificationError"):
            await ask(pool)
        assert pool.connections == 0


@dialogue
async def test_a_worker_whose_certificate_is_over_is_not(authority: Authority, trusting: ssl.SSLContext) -> None:
    async with Worker(serve_forever, tls=authority.server(days=-1)) as worker:
        pool = Pool(f"https://localhost:{worker.port}", tls=trusting)
        with pytest.raises(WorkerUnreachable, match="SSLCertVerificationError"):
            await ask(pool)
        assert pool.connections == 0


@dialogue
async def test_a_worker_without_tls_is_not(trusting: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with Worker(script) as worker:
        pool = Pool(f"https://localhost:{worker.port}", tls=trusting)
        with pytest.raises(WorkerUnreachable):
            await ask(pool)
        assert pool.connections == 0


@dialogue
async def test_leaving_in_the_middle_closes_at_once(at_worker: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(CHUNKED + chunk(b"x"))
        await peer.gone()

    async with Worker(script, tls=at_worker) as worker:
        pool = Pool(f"https://localhost:{worker.port}", tls=trusting)
        response = await post(pool)
        assert await response.take() == b"x"
        response.abort()
        with pytest.raises(WorkerBroke):
            await response.take()
        await worker.left()
        await until(lambda: pool.connections == 0)


@dialogue
async def test_a_large_answer_comes_whole_through_tls(at_worker: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    body = bytes(range(256)) * 16384

    async def script(peer: Peer) -> None:
        await peer.answer(body)
        await peer.gone()

    async with Worker(script, tls=at_worker) as worker:
        pool = Pool(f"https://localhost:{worker.port}", tls=trusting)
        assert await ask(pool) == body
        await pool.close()
        await until(lambda: pool.connections == 0)
