"""Model servers that stall, break off, hang up between questions, or are not who they should be."""

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.guard.conftest import ANSWER, ScriptedUpstream, Seen, served, whole

from stillwatch.errors import ConfigError, StillwatchError
from stillwatch.guard.config import GuardConfig, Limits
from stillwatch.guard.connections.tls import TlsConfig, upstream_tls

Make = Callable[..., GuardConfig]
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"X"}}]}\n\n'


async def test_stalls_mid_stream(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A stream that falls silent is cut after the limit, for the client too, and recorded."""

    async def script(_: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        await reader.readexactly(1)

    upstream.script = script
    config = make_config(limits=Limits(read_s=0.1))
    async with served(config) as gateway, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"q"}]}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        answer = await reader.read()
        writer.close()
        await upstream.left.wait()
        (exchange,) = await gateway.record()
    assert answer.endswith(EVENT + b"\r\n")
    assert ("X", "upstream_timeout") == (exchange.answer, exchange.error)


async def test_cut_within_an_answer(make_config: Make, upstream: ScriptedUpstream) -> None:
    """An answer shorter than it said is a failure, never handed on as if it were whole."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n"

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + ANSWER[:50])
        writer.close()

    upstream.script = script
    async with served(make_config()) as gateway:
        status, _, body = await gateway.ask()
        (exchange,) = await gateway.record()
    assert (502, "upstream_broken") == (status, json.loads(body)["error"]["code"])
    assert (502, "upstream_broken") == (exchange.status, exchange.error)


async def test_hangs_up_between_questions(make_config: Make, upstream: ScriptedUpstream) -> None:
    """A pooled connection that died before a byte of an answer came is replaced, unseen."""
    lives: list[int] = []

    async def script(
        seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        port = writer.get_extra_info("peername")[1]
        lives.append(port)
        if lives.count(port) == 2:  # the second question on this connection: gone without a word
            writer.close()
        else:
            await whole(ANSWER)(seen, reader, writer)

    upstream.script = script
    async with served(make_config()) as gateway:
        assert [200, 200] == [(await gateway.ask())[0] for _ in range(2)]
        assert 2 == len(await gateway.record())
    assert (3, 2) == (len(lives), len(set(lives)))


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 O"], ids=["new connection", "first bytes"])
async def test_asks_no_second_time(
    make_config: Make, upstream: ScriptedUpstream, first: bytes
) -> None:
    """A question that the model server may have begun to answer is not asked a second time."""
    n_asked = 0

    async def script(
        seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal n_asked
        n_asked += 1
        if first and n_asked == 1:
            await whole(ANSWER)(seen, reader, writer)  # so that the next one finds it pooled
            return
        writer.write(first)
        writer.close()

    upstream.script = script
    async with served(make_config()) as gateway:
        statuses = [(await gateway.ask())[0] for _ in range(2 if first else 1)]
    assert ([200, 502] if first else [502]) == statuses
    assert len(statuses) == n_asked


async def test_takes_no_upload(make_config: Make, upstream: ScriptedUpstream) -> None:
    """An upload that the model server stops taking fails after the limit of its silence."""
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await left.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config = make_config(upstream=url, limits=Limits(read_s=0.2))
    async with served(config) as gateway, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: h\r\nx-api-key: key-ann\r\n"
        writer.write(head + b"content-length: 90000000\r\n\r\n" + b"a" * 20_000_000)
        assert b"HTTP/1.1 504 " == (await reader.read())[:13]
        writer.close()
    left.set()
    server.close()


INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
EXTRA = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"


@pytest.mark.parametrize(("before", "after"), [(INTERIM, b""), (b"", EXTRA), (b"", b"\r\nnoise")])
async def test_answers_out_of_turn(
    make_config: Make, upstream: ScriptedUpstream, before: bytes, after: bytes
) -> None:
    """What nobody asked for reaches nobody: not as a head, and not as the next one's answer."""

    async def script(_: Seen, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
        writer.write(before + head + ANSWER)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(after)

    upstream.script = script
    async with served(make_config()) as gateway, asyncio.timeout(5):
        found = []
        for key in ("key-ann", "key-bob", "key-ann"):
            found.append((await gateway.ask(key=key))[::2])
            await asyncio.sleep(0.04)
    assert [(200, ANSWER)] * 3 == found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority of our own and a certificate of it for `localhost`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program")
    folder = tmp_path_factory.mktemp("tls")
    new = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]
    ca = [*new, "-days", "2", "-subj", "/CN=own authority", "-keyout", "ca.key", "-out", "ca.pem"]
    leaf = [
        *new, "-days", "2", "-subj", "/CN=model server", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
        "-keyout", "server.key", "-out", "server.pem",
    ]  # fmt: skip
    for command in (ca, leaf):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


async def test_tls(make_config: Make, upstream: ScriptedUpstream, authority: Path) -> None:
    """Over TLS the server's name is sent and its certificate checked, against our own authority."""
    asked_for: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    context.sni_callback = lambda _, name, __: asked_for.append(name)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    tls = TlsConfig(ca_file=authority / "ca.pem")
    trusting = make_config(upstream=f"https://localhost:{port}", tls=tls)
    async with served(trusting) as gateway:
        assert (200, ANSWER) == (await gateway.ask())[::2]
    assert (["localhost"], 1) == (asked_for, len(upstream.seen))
    assert f"localhost:{port}" == upstream.seen[0].header("host")

    for config in (
        replace(trusting, tls=TlsConfig()),
        replace(trusting, upstream=f"https://127.0.0.1:{port}"),
    ):
        async with served(config) as gateway:
            status, _, body = await gateway.ask()
            assert (502, "upstream_untrusted") == (status, json.loads(body)["error"]["code"])
    assert 1 == len(upstream.seen)
    server.close()


def test_tls_files(tmp_path: Path) -> None:
    """A file that is no authority, or no certificate, is said before anything is served."""
    (tmp_path / "empty.pem").write_text("nothing")
    for config in (
        TlsConfig(ca_file=tmp_path / "absent.pem"),
        TlsConfig(ca_file=tmp_path / "empty.pem"),
        TlsConfig(client_cert=tmp_path / "empty.pem"),
    ):
        with pytest.raises(ConfigError, match="no "):
            upstream_tls(config)
    with pytest.raises(StillwatchError, match="client_cert"):
        TlsConfig(client_key=tmp_path / "key.pem")
