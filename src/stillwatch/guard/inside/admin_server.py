"""The admin's routes beside a proxy that is not ours: a small server in its event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from stillwatch.guard.admin.routes import ADMIN_PREFIX, serve_admin, serve_health
from stillwatch.guard.gateway import listen
from stillwatch.guard.routes.replies import NOT_FOUND, refuse
from stillwatch.guard.state import GuardState


class _Quiet(uvicorn.Server):
    """Leaves the process's signals to the server that it stands beside."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving_admin(state: GuardState) -> AsyncIterator[int]:
    """Serve `/healthz`, `/metrics` and the admin routes of a state on its host and port.

    Args:
        state: open.

    Yields:
        The port.

    Raises:
        EnvironmentUnfitError: the port is busy.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/healthz":
            await serve_health(state, send)
        elif path == "/metrics" or path.startswith(ADMIN_PREFIX):
            await serve_admin(state, scope, receive=receive, send=send)
        else:
            await refuse(send, NOT_FOUND)

    config = uvicorn.Config(
        app, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    server = _Quiet(config)
    with listen(state.config) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task
