"""Requests broken at random: whatever gets through means the same to another parser behind."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import h11
from tests.unit.guard.conftest import ANSWER, served

from stillwatch.guard.config import GuardConfig
from stillwatch.guard.connections.framing import ServerConfig

Make = Callable[..., GuardConfig]
N_CASES = 400
HIDDEN = b"GET /v1/smuggled HTTP/1.1\r\nHost: h\r\nx-api-key: key-bob\r\n\r\n"
PIECES = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\x0b", b"\0", b":", b";", b",", b"0", b"\xff", b"-1",
    b"chunked", b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.0", b"ffffffff", b"%0d%0a", b"Host: x\r\n",
    b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:\tchunked\r\n", b"Content-Length: 5\r\n",
    b"Content-Length:0\r\n", b"Connection: close\r\n", b"Connection: content-length\r\n",
    b"Connection: transfer-encoding, x-api-key\r\n", b"TE: chunked\r\n", b"Content_Length: 3\r\n",
    b"Trailer: content-length\r\n", b"X_Api_Key: z\r\n",
]  # fmt: skip


def _seeds() -> list[bytes]:
    """Sound requests with another one hidden in the body or behind it."""
    sized = b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    endings = [
        sized, b"Transfer-Encoding: chunked\r\n\r\n" + chunk,
        b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n" + HIDDEN,
        b"Content-Length: 0\r\nX: y\r\n\r\n" + HIDDEN,
        b"Connection: upgrade\r\nUpgrade: h2c\r\n" + sized, b"Expect: 100-continue\r\n" + sized,
    ]  # fmt: skip
    routes = (b"/v1/chat/completions", b"/v1/embeddings", b"/v1/responses")
    head = b"POST %b HTTP/1.1\r\nHost: h\r\nx-api-key: key-ann\r\n"
    return [head % route + ending for route in routes for ending in endings]


def _mutated(draw: random.Random, seed: bytes) -> bytes:
    found = bytearray(seed)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(found) + 1)
        ends = [i for i in range(len(found)) if found[i : i + 2] == b"\r\n"]
        if ends and draw.random() < 0.6:
            at = draw.choice(ends) + draw.choice((0, 1, 2))
        kind = draw.random()
        if kind < 0.6:
            found[at:at] = draw.choice(PIECES)
        elif kind < 0.8:
            del found[at : at + draw.randint(1, 3)]
        elif at < len(found):
            found[at] = draw.randrange(256)
    return bytes(found)


@dataclass
class _OtherParser:
    """A model server that reads with h11, which shares no code with the gateway's parser."""

    seen: list[h11.Request] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each request on a connection; note what is none."""
        parser = h11.Connection(h11.SERVER)
        try:
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    parser.receive_data(await reader.read(65_536))
                elif isinstance(event, h11.Request):
                    self.seen.append(event)
                elif isinstance(event, h11.EndOfMessage):
                    head = h11.Response(
                        status_code=200, headers=[("content-length", str(len(ANSWER)))]
                    )
                    writer.write(parser.send(head) or b"")
                    writer.write(parser.send(h11.Data(ANSWER)) or b"")
                    writer.write(parser.send(h11.EndOfMessage()) or b"")
                    parser.start_next_cycle()
                elif not isinstance(event, h11.Data):
                    break
        except h11.RemoteProtocolError as error:
            # A body that its client never finished is broken off, as it should be.
            if "without sending complete" not in str(error):
                self.faults.append(str(error))
        except ConnectionError:
            pass
        finally:
            writer.close()


async def test_mutated_requests(make_config: Make) -> None:
    """No hidden request comes out, nothing hangs, and another parser reads what is passed."""
    draw, seeds, behind = random.Random(11), _seeds(), _OtherParser()
    found: Counter[bytes] = Counter()
    limit = asyncio.Semaphore(16)

    async def send(port: int, data: bytes, cut: int) -> None:
        async with limit:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data[:cut])
            await asyncio.sleep(0.001)
            writer.write(data[cut:])
            answer = await reader.read()
            writer.close()
        assert answer.count(b"HTTP/1.1 ") - answer.count(b"HTTP/1.1 100 ") <= 1
        found[answer[9:12]] += 1

    server = await asyncio.start_server(behind.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    quick = ServerConfig(header_s=0.2, body_s=0.2, idle_s=0.2)
    async with served(make_config(upstream=url, server=quick)) as gateway, asyncio.timeout(10):
        cases = [_mutated(draw, draw.choice(seeds)) for _ in range(N_CASES)]
        # Within the head: what follows a whole answer would be a request of its own, and sound.
        cuts = [draw.randrange(max(case.find(b"\r\n\r\n"), 1)) for case in cases]
        await asyncio.gather(*(send(gateway.port, *pair) for pair in zip(cases, cuts, strict=True)))
    server.close()
    assert [] == behind.faults
    assert [] == [request.target for request in behind.seen if b"smuggled" in request.target]
    names = [Counter(name for name, _ in request.headers) for request in behind.seen]
    assert 1 == max(n[b"content-length"] + n[b"transfer-encoding"] for n in names)
    assert set() == {name for n in names for name in n} & {b"x_api_key", b"content_length"}
    # The test says something only when some got through and some did not.
    assert N_CASES == sum(found.values())
    assert min(found[b"200"], found[b"400"], len(behind.seen)) > 30
