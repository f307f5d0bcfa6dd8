"""The gateway: an ASGI application in front of one model server, and the process that serves it.

    client -> gateway -> model server
                 |  journal (every chat exchange) -> learner -> verdict table
                 `--- decides from a snapshot of the verdict table

It knows nothing about how campaigns are found, and nothing of the answers it carries.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import math
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import Receive, Scope, Send

from stillwatch.errors import EnvironmentUnfitError
from stillwatch.guard.admin.routes import ADMIN_PREFIX, serve_admin, serve_health
from stillwatch.guard.batch.routes import route_of
from stillwatch.guard.batch.serve import serve_batches
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.connections.framing import ServerConfig
from stillwatch.guard.connections.front import Front
from stillwatch.guard.inside.guardrail_route import GuardrailRoute
from stillwatch.guard.routes.ask_route import serve_ask
from stillwatch.guard.routes.pass_route import serve_other
from stillwatch.guard.routes.wires import wire_of
from stillwatch.guard.setup.lifecycle import reload_on
from stillwatch.guard.state import GuardState


class Gateway:
    """The ASGI application.

    Args:
        state: opened, shared by all requests.
    """

    def __init__(self, state: GuardState) -> None:
        self._state = state
        self._guardrail = GuardrailRoute(state)

    @property
    def settings(self) -> ServerConfig:
        """Bounds on what one client can take up."""
        return self._state.config.server

    def count(self, code: str) -> None:
        """Count a request that was refused before it came here.

        Args:
            code: why.
        """
        self._state.metrics.count("refused_at_door", code=code)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Args:
            scope: ASGI's; HTTP only.
            receive: ASGI's.
            send: ASGI's.
        """
        path = scope["path"]
        wire = wire_of(path) if scope["method"] == "POST" else None
        if wire is not None:
            await serve_ask(self._state, scope, wire=wire, receive=receive, send=send)
        elif self._guardrail.takes(scope):
            await self._guardrail.serve(scope, receive=receive, send=send)
        elif path == "/healthz":
            await serve_health(self._state, send)
        elif path == "/metrics" or path.startswith(ADMIN_PREFIX):
            await serve_admin(self._state, scope, receive=receive, send=send)
        elif (route := route_of(path)) is not None:
            await serve_batches(self._state, scope, route=route, receive=receive, send=send)
        else:
            await serve_other(self._state, scope, receive=receive, send=send)


def run_gateway(
    config: GuardConfig,
    on_ready: Callable[[int], None] | None = None,
    *,
    reread: Callable[[], GuardConfig] | None = None,
) -> None:
    """Serve until the process is told to end (SIGTERM or SIGINT); SIGHUP reads the files again.

    Args:
        config: everything.
        on_ready: called once with the port when questions are accepted.
        reread: reads the configuration again; None makes a reload take up keys and policy only.

    Raises:
        EnvironmentUnfitError: the port is busy, or another gateway holds the state folder.
        ConfigError: the key table cannot be read.
        RecordError: the journal or the verdict table cannot be opened.
    """
    with listen(config) as listener, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config, listener, on_ready=on_ready, reread=reread))


async def _serve(
    config: GuardConfig,
    listener: socket.socket,
    *,
    on_ready: Callable[[int], None] | None,
    reread: Callable[[], GuardConfig] | None,
) -> None:
    async with GuardState(config) as state:
        server = uvicorn.Server(server_config(Gateway(state)))
        # uvicorn raises the signal again once it has stopped; without handlers of ours that would
        # end the process before the journal is closed.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _noted)
            reload_on(signal.SIGHUP, state, reread)
        # What is here by now stays; looking through it again and again costs every question.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        if on_ready is not None:
            # The listener queues connections already.
            on_ready(listener.getsockname()[1])
        await server.serve(sockets=[listener])


def server_config(app: Gateway | None) -> uvicorn.Config:
    """Configure the server that carries a gateway.

    Args:
        app: the gateway; None where only the settings are read.

    Returns:
        uvicorn's configuration, silent and adding nothing to what passes.
    """
    settings = ServerConfig() if app is None else app.settings
    return uvicorn.Config(
        app or "",
        http="httptools" if app is None else Front(app, settings, app.count),  # type: ignore[arg-type]  # called like a class
        interface="asgi3",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        # uvicorn would believe any x-forwarded-for from loopback; `trusted_hops` decides here.
        proxy_headers=False,
        # The model server's own lines pass through; a second set would lie about it.
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    return server_config(None).get_loop_factory()


def _noted(number: int, frame: FrameType | None) -> None:
    """Take note of a signal that uvicorn has already acted on."""


def listen(config: GuardConfig) -> socket.socket:
    """Take the port.

    Args:
        config: names host and port.

    Returns:
        A socket that queues connections from now on.

    Raises:
        EnvironmentUnfitError: the port is busy or cannot be used.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts: else the end of an
    # answer waits 40 ms for the client's word that it has the beginning.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        busy = error.errno == errno.EADDRINUSE
        why = "is busy" if busy else f"cannot be used: {error.strerror}"
        message = f"guard: port {config.port} of {config.host} {why}"
        hint = "choose another port, or 0 for a free one"
        raise EnvironmentUnfitError(message, hint=hint) from error
    return listener
