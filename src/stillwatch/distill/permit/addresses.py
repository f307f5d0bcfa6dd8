"""Endpoints as permissions name them: loopback or not, within or not, without secrets."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

#: Schemes of an endpoint, with the port that each has of itself.
PORTS = {"http": 80, "https": 443}


def is_loopback(endpoint: str) -> bool:
    """Say whether an endpoint is on this machine by its address.

    Args:
        endpoint: a base URL.

    Returns:
        True for `localhost`, 127.0.0.0/8 and ::1, by the spelling alone.

    Example:
        >>> is_loopback("http://127.0.0.1:8000/v1"), is_loopback("https://api.example.com")
        (True, False)
    """
    return is_loopback_host(host_of(endpoint))


def is_loopback_host(host: str) -> bool:
    """Tell whether a host is this machine, by its spelling alone.

    Args:
        host: a name or an address, without port and brackets.

    Returns:
        True for 127.0.0.0/8, ::1 and `localhost`.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_folder(endpoint: str) -> bool:
    """Say whether an endpoint stands for a local folder.

    Args:
        endpoint: as `teacher.identify` writes it: `folder:` and a hash; "" is taken for one too.

    Returns:
        Whether nothing is asked over a network.
    """
    return not endpoint or endpoint.startswith("folder:")


def is_near(endpoint: str) -> bool:
    """Say whether an endpoint is this machine: a folder, or loopback.

    Args:
        endpoint: a base URL, or a folder's.

    Returns:
        Whether no other machine is asked.
    """
    return is_folder(endpoint) or is_loopback(endpoint)


def is_within(endpoint: str, permitted: str) -> bool:
    """Say whether an endpoint lies under another.

    Args:
        endpoint: the base URL that is to be asked.
        permitted: the base URL that was permitted.

    Returns:
        True for the same scheme, host and port and a path that begins with the permitted one.

    Example:
        >>> is_within("https://api.example.com/v1", "https://API.example.com:443")
        True
        >>> is_within("https://api.example.com/v10", "https://api.example.com/v1")
        False
    """
    asked, allowed = split_url(endpoint), split_url(permitted)
    if _origin(asked) != _origin(allowed):
        return False
    path, prefix = asked.path.rstrip("/") + "/", allowed.path.rstrip("/") + "/"
    return path.startswith(prefix) and ".." not in path.split("/")


def shown(endpoint: str) -> str:
    """Write an endpoint without user, password, query and fragment.

    Args:
        endpoint: a base URL, or "".

    Returns:
        Scheme, host, a port that is not the scheme's own, and the path without a last slash.

    Example:
        >>> shown("HTTPS://user:secret@Api.Example.com:443/v1/?key=k")
        'https://api.example.com/v1'
    """
    if is_folder(endpoint):
        return endpoint
    parts = split_url(endpoint)
    scheme, host, port = _origin(parts)
    host = f"[{host}]" if ":" in host else host
    at = "" if port is None or port == PORTS.get(scheme) else f":{port}"
    return f"{scheme}://{host}{at}{parts.path.rstrip('/')}"


def host_of(endpoint: str) -> str:
    """Read an endpoint's host.

    Args:
        endpoint: a base URL, or "".

    Returns:
        The host in lower case, without a last dot; "" when there is none.
    """
    return (split_url(endpoint).hostname or "").rstrip(".")


def split_url(url: str) -> SplitResult:
    """Take a URL apart.

    Args:
        url: any text.

    Returns:
        Its parts, whose port can be read; no parts when it is no URL.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError:
        return urlsplit("")
    return parts


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    host = (parts.hostname or "").rstrip(".")
    return parts.scheme, host, parts.port or PORTS.get(parts.scheme)
