"""The connections of a batch interface: a key goes to the endpoint named, and no further."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stillwatch.errors import ModelError
from stillwatch.model.batch_wires import BatchClient, SubmissionUnknownError, batch_client
from stillwatch.model.client import Timeouts

KEY = "sk-very-secret"
WIRES = ("openai.chat", "openai.responses", "anthropic.messages")


async def _submit(client: BatchClient, rows: Path) -> object:
    return await client.submit(rows, tag="0011223344556677")


async def _state(client: BatchClient, rows: Path) -> object:
    return await client.state("batch_1")


async def _find(client: BatchClient, rows: Path) -> object:
    return await client.find("0011", since=0.0, n_rows=1, known=frozenset())


async def _download(client: BatchClient, rows: Path) -> object:
    await client.download("/files/f1/content", rows.with_name("came.jsonl"))
    return None


@contextmanager
def _server(handle: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Serve a handler on loopback, whatever the method."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            handle(self)

        do_GET = do_POST = _any  # noqa: N815 - names that http.server looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("ask", [_submit, _state, _find, _download])
async def test_a_redirect_is_told_and_not_followed(
    ask: Callable[[BatchClient, Path], Awaitable[object]], status: int, tmp_path: Path
) -> None:
    """Who an endpoint points to gets neither key nor questions; the user is told what to write."""
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b'{"custom_id":"t-0"}\n')
    seen_here: list[str] = []
    seen_there: list[str] = []

    def there(handler: BaseHTTPRequestHandler) -> None:
        seen_there.append(str(handler.headers))
        handler.send_response(200)
        handler.end_headers()

    with _server(there) as elsewhere:

        def here(handler: BaseHTTPRequestHandler) -> None:
            seen_here.append(handler.path)
            handler.send_response(status)
            handler.send_header("location", f"{elsewhere}{handler.path}")
            handler.send_header("content-length", "0")
            handler.end_headers()

        for wire in WIRES:
            with _server(here) as url:
                name = "x-api-key" if wire == "anthropic.messages" else "authorization"
                async with batch_client(
                    f"{url}/v1", wire=wire, headers={name: KEY}, timeouts=Timeouts(2.0, 2.0, 5.0)
                ) as client:
                    with pytest.raises(ModelError) as raised:
                        await ask(client, rows)
            assert f"{url}/v1: status {status} " in str(raised.value)
            assert "the endpoint moved; write its new address" == raised.value.hint
            assert KEY not in str(raised.value)
            # Surely refused: it is neither sent again nor looked for among the vendor's batches.
            assert not isinstance(raised.value, SubmissionUnknownError)
            assert not raised.value.retryable
    assert len(WIRES) == len(seen_here)
    assert [] == seen_there
    assert not (tmp_path / "came.jsonl").exists()
