"""From where the admin may be reached; the `[admin]` table of the configuration."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from stillwatch.errors import reject


@dataclass(frozen=True)
class AdminConfig:
    """Who may open the admin's pages and API, besides having the token.

    Attributes:
        hosts: names, besides loopback's, by which a browser may call the gateway; any other is
            refused, or a page of a stranger could reach the admin by a name that it points here.
        peers: networks, besides loopback, from which the admin may be reached.
        session_s: seconds after which a login ends.
        idle_s: seconds without a request after which a login ends.
    """

    hosts: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    session_s: float = 43_200.0
    idle_s: float = 3600.0

    def __post_init__(self) -> None:
        for peer in self.peers:
            try:
                ipaddress.ip_network(peer)
            except ValueError:
                reject("guard.admin", "peers", "networks like 10.0.0.0/8", got=peer)
        for host in self.hosts:
            if not host or "/" in host or host != host.strip():
                reject("guard.admin", "hosts", "names like guard.example.org:8900", got=host)
        for name in ("session_s", "idle_s"):
            if getattr(self, name) <= 0:
                reject("guard.admin", name, "above 0", got=getattr(self, name))
