"""Who asks, in LiteLLM's words: the fields that it stamps on every call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from stillwatch.guard.inside.config import Whose
from stillwatch.guard.keys import client_address
from stillwatch.logs.fields import account_of, first_text
from stillwatch.logs.reader import ReadOptions

#: What LiteLLM puts in place of a value that it does not hand on.
_WITHHELD: Final = "[present]"
#: The client's header lines that say something about who asks; others are not looked at.
WANTED: Final = frozenset({"user-agent", "x-stillwatch-verified", "x-forwarded-for"})


class Caller(NamedTuple):
    """Who asks.

    Attributes:
        account: the account, by the same rule as the reader of LiteLLM's logs.
        key: the virtual key's hash as LiteLLM keeps it, "" without one.
        org: the organisation, else the team, or None.
    """

    account: str
    key: str
    org: str | None


def caller_of(told: Mapping[str, Any], *, whose: Whose, options: ReadOptions) -> Caller:
    """Read who asks.

    Args:
        told: LiteLLM's `user_api_key_...` fields.
        whose: what an account is.
        options: holds the key for hashes of e-mail addresses and keys.

    Returns:
        The caller.
    """
    key = first_text(told.get("user_api_key_hash")) or ""
    user, end_user = told.get("user_api_key_user_id"), told.get("user_api_key_end_user_id")
    order = {
        "user": (user, key, end_user),
        "key": (key, user, end_user),
        "end_user": (end_user, user, key),
    }[whose]
    org = first_text(told.get("user_api_key_org_id"), told.get("user_api_key_team_id"))
    return Caller(account_of(options, *order), key, org)


def wanted_headers(told: object) -> dict[bytes, bytes]:
    """Take the client's header lines that matter.

    Args:
        told: names and values as LiteLLM keeps them; anything else counts as none.

    Returns:
        Lower-case names and values.
    """
    if not isinstance(told, Mapping):
        return {}
    return {
        name.lower().encode(): value.encode("utf-8", "replace")
        for name, value in told.items()
        if isinstance(name, str)
        and isinstance(value, str)
        and name.lower() in WANTED
        and value != _WITHHELD
    }


def address_in(headers: Mapping[bytes, bytes], peer: object, *, trusted_hops: int) -> str | None:
    """Tell the client's address.

    Args:
        headers: as of `wanted_headers`.
        peer: the address that LiteLLM saw.
        trusted_hops: proxies of yours in front of LiteLLM.

    Returns:
        The address, or None when it is not known.
    """
    seen = peer if isinstance(peer, str) and peer else None
    return client_address(seen, headers, trusted_hops=trusted_hops)
