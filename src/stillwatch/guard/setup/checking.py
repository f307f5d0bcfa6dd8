"""Looks at everything that a gateway needs before it is started."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from multidict import CIMultiDict

from stillwatch.errors import StillwatchError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.connections.tls import upstream_tls
from stillwatch.guard.connections.upstream import Upstream, UpstreamError
from stillwatch.guard.gateway import listen
from stillwatch.guard.keys import KeyTable
from stillwatch.guard.policy.live import LivePolicy, Settings
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.record.privacy import KeyedHash
from stillwatch.record.store import count_exchanges


class Checked(NamedTuple):
    """One thing that was looked at.

    Attributes:
        what: a few words.
        is_well: whether the gateway would start with it; None for a warning.
        found: one sentence.
    """

    what: str
    is_well: bool | None
    found: str


def check(config: GuardConfig) -> Iterator[Checked]:
    """Look at the parts of a configuration one after the other; starts nothing that lasts.

    Args:
        config: read already, its secrets with it.

    Yields:
        What was found.
    """
    hasher = config.secrets.hasher
    yield _keys(config, hasher)
    if config.policy is not None:
        yield _policy(config, hasher)
    yield _folder(config.state)
    if config.learner.reference is not None:
        yield _reference(config.learner.reference)
    elif config.learner.enabled:
        found = "none: p-values rest on the log itself, so read the evidence first"
        yield Checked("reference", None, found)
    yield _port(config)
    yield _admin(config)
    if config.upstream:
        yield asyncio.run(_upstream(config))


def _keys(config: GuardConfig, hasher: KeyedHash) -> Checked:
    if config.keys is None:
        return Checked("keys", True, "no table: every key is an account of its own")
    try:
        table = KeyTable.load(config.keys, hasher)
    except StillwatchError as error:
        return Checked("keys", False, str(error))
    found = f"{len(table):,} in {config.keys}"
    return Checked("keys", True if len(table) else None, found)


def _policy(config: GuardConfig, hasher: KeyedHash) -> Checked:
    assert config.policy is not None, "asked for"
    key = config.secrets.mark_master_key
    try:
        settings = Settings(config.policy, config.accounts, hasher, key)
        policy = LivePolicy(settings, Metrics()).engine.policy
    except StillwatchError as error:
        return Checked("policy", False, str(error))
    now = time.time()
    stale = [source.name for source in policy.sources if now >= source.stale_at]
    late = f"; too old: {', '.join(stale)}" if stale else ""
    found = f"{len(policy.rules):,} rules, {len(policy.sources):,} lists{late}"
    return Checked("policy", None if stale else True, f"{found}, its tests pass")


def _folder(state: Path) -> Checked:
    near = state
    while not near.exists() and near != near.parent:
        near = near.parent
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        return Checked("state", False, f"{near} cannot be written")
    room = os.statvfs(near)
    free = room.f_bavail * room.f_frsize / 2**30
    words = f"{state}, {free:.1f} GiB free"
    return Checked("state", True if free >= 1 else None, words)


def _reference(path: Path) -> Checked:
    try:
        n = count_exchanges(path)
    except StillwatchError as error:
        return Checked("reference", False, str(error))
    return Checked("reference", True if n else None, f"{n:,} honest exchanges")


def _port(config: GuardConfig) -> Checked:
    try:
        listen(config).close()
    except StillwatchError as error:
        return Checked("port", False, str(error))
    return Checked("port", True, f"{config.port} of {config.host} is free")


def _admin(config: GuardConfig) -> Checked:
    token = config.secrets.admin_token
    if token is None:
        return Checked("admin", None, "no token is set: neither pages nor metrics")
    if len(token) < 16:
        return Checked("admin", None, f"the token has {len(token)} characters, 16 are few")
    return Checked("admin", True, "behind its token")


async def _upstream(config: GuardConfig) -> Checked:
    """Ask the model server which models it has: any answer of its own says that it is there."""
    headers: CIMultiDict[str] = CIMultiDict()
    if config.secrets.upstream_key is not None:
        headers["authorization"] = f"Bearer {config.secrets.upstream_key}"
    url = urlsplit(config.upstream)
    host = f"{url.scheme}://{url.hostname}"
    try:
        tls = upstream_tls(config.tls) if url.scheme == "https" else None
        async with (
            Upstream(config.upstream, limits=config.limits, tls=tls) as upstream,
            asyncio.timeout(config.limits.connect_s + 10),
            upstream.open("GET", "/v1/models", headers=headers, body=None) as response,
        ):
            status, body = response.status, await response.read()
    except (UpstreamError, TimeoutError, OSError, socket.gaierror) as error:
        words = str(error) or "It did not answer in time."
        return Checked("upstream", False, f"{host}: {words}")
    except StillwatchError as error:
        return Checked("upstream", False, str(error))
    if status >= 500:
        return Checked("upstream", False, f"{host} answers with status {status}")
    return Checked("upstream", True, f"{host} answers{_models(status, body)}")


def _models(status: int, body: bytes) -> str:
    if status != 200:
        return f" with status {status}"
    try:
        n = len(json.loads(body)["data"])
    except (ValueError, KeyError, TypeError):
        return ""
    return f", {n:,} model{'' if n == 1 else 's'}"
