"""The gateway's own HTTP client against servers that do odd things, byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from multidict import CIMultiDict

from stillwatch.errors import InvalidInputError
from stillwatch.guard.config import Limits
from stillwatch.guard.connections.upstream import Upstream, UpstreamError

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def asking(serve: Serve, **limits: float) -> AsyncIterator[Upstream]:
    """A client of a server that does what it is told on each connection."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with Upstream(f"http://127.0.0.1:{port}/base", limits=Limits(**limits)) as upstream:  # type: ignore[arg-type]  # seconds
            yield upstream
    finally:
        server.close()


async def _ask(
    upstream: Upstream, method: str = "GET", body: bytes | AsyncIterator[bytes] | None = None,
    **headers: str,
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:  # fmt: skip
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    async with upstream.open(method, "/x?y=%2F", headers=named, body=body) as response:
        return response.status, response.pairs, await response.read()


def _answering(*answers: bytes) -> tuple[Serve, list[bytes]]:
    """Answer the requests, on whatever connection, one after the other; tells their heads."""
    heads: list[bytes] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            answer = left.pop(0)
            writer.write(answer)
            if b"content-length" not in answer and b"chunked" not in answer:
                return

    return serve, heads


@pytest.mark.parametrize(
    ("answer", "method", "expected"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + OK, "GET", b"ok"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "GET", b"until the end"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "GET", b"ok"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
         "GET", b"ok"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", "HEAD", b""),
        (b"HTTP/1.1 204 No\r\ncontent-length: 9\r\n\r\n", "GET", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "GET", b""),
        (OK + OK, "GET", b"ok"),
    ],
)  # fmt: skip
async def test_odd_answers(answer: bytes, method: str, expected: bytes) -> None:
    """However an answer says its length, it is read to its end; what follows belongs to no one."""
    serve, heads = _answering(answer, OK)
    async with asking(serve) as upstream:
        status, _, body = await _ask(upstream, method)
        assert (204 if b"204" in answer else 200, expected) == (status, body)
        again, pairs, body = await _ask(upstream)
        assert (200, [(b"content-length", b"2")], b"ok") == (again, pairs, body)
    assert heads[0].startswith(f"{method} /base/x?y=%2F HTTP/1.1\r\nhost: 127.0.0.1:".encode())


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"
        b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
    ],
)
async def test_no_answers(answer: bytes) -> None:
    """An answer that is cut, malformed or framed in two ways is a failure, never half an answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with asking(serve) as upstream:
        with pytest.raises(UpstreamError, match="broke off or did not speak HTTP"):
            await _ask(upstream)


async def test_unasked_answer() -> None:
    """What a server says on an idle connection does not become the answer to the next question."""
    spoken = asyncio.Event()
    n_connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        first = n_connections == 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        if first:
            await asyncio.sleep(0.02)
            writer.write(OK.replace(b"ok", b"no"))
            await writer.drain()
            spoken.set()
        await reader.read()

    async with asking(serve) as upstream:
        assert b"ok" == (await _ask(upstream))[2]
        await spoken.wait()
        await asyncio.sleep(0.01)
        assert b"ok" == (await _ask(upstream))[2]
    assert 2 == n_connections


async def test_kept_and_let_go() -> None:
    """Questions after one another share a connection; an idle one is closed after its time."""
    closed = asyncio.Event()
    n_connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)

    async def noting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            closed.set()

    async with asking(noting, upstream_idle_s=0.1) as upstream:
        for _ in range(5):
            await _ask(upstream)
        assert 1 == n_connections
        await asyncio.wait_for(closed.wait(), 5)
        await _ask(upstream)
        assert 2 == n_connections


async def test_back_pressure() -> None:
    """A server that sends faster than its answer is taken is made to wait; all of it arrives."""
    n_sent, size = 0, 32 * 2**20

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode())
        while n_sent < size:
            writer.write(bytes(2**16))
            n_sent += 2**16
            await writer.drain()

    async with (
        asking(serve) as upstream,
        upstream.open("GET", "/", headers=CIMultiDict(), body=None) as response,
    ):
        n_taken = len(await response.piece())
        await asyncio.sleep(0.2)
        assert n_sent < size // 2
        while piece := await response.piece():
            n_taken += len(piece)
    assert (size, size) == (n_sent, n_taken)


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        ({"content_length": "5"}, b"content-length: 5\r\n\r\nabcde"),
    ],
)
async def test_streamed_question(headers: dict[str, str], expected: bytes) -> None:
    """A streamed body keeps its length, or comes in chunks when it says none."""
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not got.endswith((b"abcde", b"0\r\n\r\n")):
            got.extend(await reader.read(100))
        writer.write(OK)

    async with asking(serve) as upstream:
        assert 200 == (await _ask(upstream, "POST", _pieces(b"abc", b"", b"de"), **headers))[0]
    assert got.endswith(expected)


@pytest.mark.parametrize("said", ["4", "6"])
async def test_another_length_than_said(said: str) -> None:
    """A streamed body that is not as long as it said is broken off, not padded and not cut."""
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(100):
            got.extend(piece)

    async with asking(serve) as upstream:
        with pytest.raises(UpstreamError):
            await _ask(upstream, "POST", _pieces(b"abc", b"de"), content_length=said)
        await asyncio.sleep(0.02)
    assert len(got.partition(b"\r\n\r\n")[2]) < int(said)


async def test_answer_before_the_question_ended() -> None:
    """A server may answer before it has the whole body; that connection is not used again."""
    n_connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK.replace(b"200 OK", b"413 Too Long"))
        await reader.read()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    async with asking(serve) as upstream:
        assert 413 == (await _ask(upstream, "POST", endless()))[0]
        assert 413 == (await _ask(upstream, "GET"))[0]
    assert 2 == n_connections


@pytest.mark.parametrize("value", ["a\r\nx-forged: 1", "a\nb", "a\rb", "a\0b"])
async def test_forged_lines(value: str) -> None:
    """A header value that would end its line is sent nowhere."""
    serve, heads = _answering(OK)
    async with asking(serve) as upstream:
        with pytest.raises(UpstreamError):
            await _ask(upstream, x=value)
        with pytest.raises(UpstreamError):
            async with upstream.open("GET", "/a b", headers=CIMultiDict(), body=None):
                pass
    assert [] == heads


def test_no_password_in_the_url() -> None:
    """A URL with a password is refused, and the password is not told."""
    with pytest.raises(InvalidInputError, match="without user and password") as caught:
        Upstream("http://ann:secret@127.0.0.1", limits=Limits())
    assert "secret" not in str(caught.value)
