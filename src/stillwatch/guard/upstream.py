"""The way to the model server: one pooled client, its failures translated at this one place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from stillwatch.errors import ModelError, ModelTimeoutError
from stillwatch.guard.config import Limits


class UpstreamError(ModelError):
    """The model server could not be reached, or broke off.

    Args:
        message: one sentence without its address, fit for the client.
        code: short code for the client and the record.
    """

    status = 502

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class UpstreamTimeoutError(UpstreamError, ModelTimeoutError):
    """The model server fell silent."""

    status = 504


class Upstream:
    """A pool of connections to one model server; an async context manager.

    Args:
        base_url: without a trailing path that clients send themselves.
        limits: bounds on waiting.
    """

    def __init__(self, base_url: str, *, limits: Limits) -> None:
        self._base = base_url.rstrip("/")
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Upstream:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=self._limits.upstream_idle_s, ttl_dns_cache=60
            ),
            # The gateway hands bytes on; whoever asked for gzip gets gzip.
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._limits.connect_s, sock_read=self._limits.read_s
            ),
            skip_auto_headers=("accept", "accept-encoding", "user-agent", "content-type"),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def open(
        self,
        method: str,
        target: str,
        *,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a question on and hold the reply open; leaving early closes the connection.

        Args:
            method: HTTP method.
            target: path and query, as the client sent them, percent-encoding untouched.
            headers: header lines.
            body: the bytes, or a stream of them.

        Yields:
            The reply, its body not yet read.

        Raises:
            UpstreamError: the server cannot be reached or broke off, here or while reading.
            UpstreamTimeoutError: it fell silent.
        """
        assert self._session is not None, "use within `async with`"
        url = URL(self._base + target, encoded=True)
        try:
            async with self._session.request(
                method, url, headers=headers, data=body, allow_redirects=False
            ) as response:
                yield response
        except aiohttp.ConnectionTimeoutError as error:
            message = "The model server cannot be reached in time."
            raise UpstreamTimeoutError(message, code="upstream_timeout") from error
        except TimeoutError as error:
            message = "The model server did not answer in time."
            raise UpstreamTimeoutError(message, code="upstream_timeout") from error
        except aiohttp.ClientConnectorError as error:
            message = "The model server cannot be reached."
            raise UpstreamError(message, code="upstream_unreachable") from error
        except (aiohttp.ClientError, ValueError) as error:
            message = "The model server broke off or did not speak HTTP."
            raise UpstreamError(message, code="upstream_broken") from error
