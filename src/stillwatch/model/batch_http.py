"""The connections of a batch interface: objects come and go, files come to the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from stillwatch.errors import ModelError
from stillwatch.model.client import ModelUnavailableError, Timeouts, error_of
from stillwatch.wire.chat import parse_error_code
from stillwatch.wire.chat_stream import dict_of

_NO_HEADERS: Mapping[str, str] = {}
_decode = msgspec.json.Decoder().decode


class BatchHttp:
    """Speaks to one endpoint's batch interface; failures are translated here.

    Args:
        endpoint: base URL.
        headers: further headers, the key among them; never shown.
        timeouts: how long to wait; an upload may take as long as it moves.

    Attributes:
        where: the endpoint as messages name it.
    """

    def __init__(self, endpoint: str, *, headers: Mapping[str, str], timeouts: Timeouts) -> None:
        self.where = endpoint.rstrip("/")
        self._headers = dict(headers)
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    async def download(self, place: str, path: Path) -> None:
        """Bring a file of results here; it is whole or absent.

        Args:
            place: from `BatchState.results`.
            path: where to.

        Raises:
            ModelError: it did not come.
        """
        part = path.with_name(f"{path.name}.part")
        async with self._replied("GET", place) as response:
            with part.open("wb") as file:
                async for piece in response.content.iter_chunked(1 << 18):
                    file.write(piece)
        part.replace(path)

    async def first_line(self, place: str) -> bytes:
        """Bring only the first line of a file of results.

        Args:
            place: from `BatchState.results`.

        Returns:
            The line, b"" when there is none.

        Raises:
            ModelError: it did not come.
        """
        found = b""
        async with self._replied("GET", place) as response:
            async for piece in response.content.iter_chunked(1 << 16):
                found += piece
                if b"\n" in found:
                    break
        return found.partition(b"\n")[0]

    async def aclose(self) -> None:
        """Close the connections. A second call does nothing."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str) -> dict[str, Any]:
        """Ask for an object.

        Args:
            path: behind the endpoint.

        Returns:
            It.

        Raises:
            ModelError: it did not come.
        """
        return await self.send("GET", path)

    async def send(
        self, method: str, path: str, *, data: object = None, kind: str | None = None
    ) -> dict[str, Any]:
        """Send something and read the object that comes back.

        Args:
            method: of HTTP.
            path: behind the endpoint.
            data: the body: bytes, an open file or a form.
            kind: its content type, unless the body knows it.

        Returns:
            The object.

        Raises:
            ModelError: none came.
        """
        told = {"content-type": kind} if kind else {}
        async with self._replied(method, path, headers=told, data=data) as response:
            body = await response.read()
        try:
            return dict_of(_decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"{self.where}: the reply was no JSON"
            raise ModelUnavailableError(message) from error

    @asynccontextmanager
    async def _replied(
        self, method: str, path: str, *, headers: Mapping[str, str] = _NO_HEADERS, **sent: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give a reply of status 200; failures before its end are translated."""
        headers = {**self._headers, **headers}
        try:
            # A redirect would carry the key, and the questions, to whomever it names.
            async with self._open().request(
                method, self.where + path, headers=headers, allow_redirects=False, **sent
            ) as response:
                if response.status != 200:
                    raise self._error(response, await response.read())
                yield response
        except (TimeoutError, aiohttp.ClientError) as error:
            raise self._broken(error) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            waits = self._timeouts
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=waits.connect_s, sock_read=waits.silence_s
                ),
            )
        return self._session

    def _error(self, response: aiohttp.ClientResponse, body: bytes) -> ModelError:
        code = parse_error_code(body)
        return error_of(self.where, response.status, code, headers=response.headers)

    def _broken(self, error: Exception) -> ModelUnavailableError:
        kind = "no answer in time" if isinstance(error, TimeoutError) else "the connection broke"
        return ModelUnavailableError(f"{self.where}: {kind} ({type(error).__name__})")
