"""Facts: what the accounts table knows, as arrays that stand beside `Profiles.accounts`.

A fact is a hash, so that equality is all that can be read from it; the table hashed what was
personal before. Hashes of networks are made as the fold makes them, so that the address an account
was opened from can be compared with those that its questions come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from stillwatch.text.ragged import Hashes

if TYPE_CHECKING:
    from stillwatch.logs.accounts import AccountRow, AccountTable

Floats = NDArray[np.float64]
Levels = NDArray[np.int8]

#: Names under which a table's tags may say when an account was closed (UTC epoch seconds).
_CLOSED = ("closed_at", "banned_at")


class Facts(NamedTuple):
    """One row an account, shape (n_accounts,) each; hashes are 0 where nothing is known.

    Attributes:
        known: whether the table has the account.
        org: organisation.
        payment: payment mark.
        signup_network: network it was opened from, comparable with `Digests.network`.
        signup_ip: address it was opened from.
        email: e-mail address.
        email_domain: its domain.
        reseller: who sold the access.
        phone_country: country of its telephone number.
        billing_country: country of its bills.
        plan: what it pays for.
        kyc_level: how well its holder is known, 0..4; -1 unknown.
        created_at: when it was opened, epoch seconds; NaN unknown.
        closed_at: when it was closed or banned, from a tag `closed_at=` or `banned_at=`; NaN
            unknown.
    """

    known: NDArray[np.bool_]
    org: Hashes
    payment: Hashes
    signup_network: Hashes
    signup_ip: Hashes
    email: Hashes
    email_domain: Hashes
    reseller: Hashes
    phone_country: Hashes
    billing_country: Hashes
    plan: Hashes
    kyc_level: Levels
    created_at: Floats
    closed_at: Floats

    @property
    def n_accounts(self) -> int:
        """How many accounts."""
        return len(self.known)

    def select(self, mask: NDArray[np.bool_]) -> Facts:
        """Keep some accounts only, as `Profiles.select` does.

        Args:
            mask: which, shape (n_accounts,).

        Returns:
            Their facts.
        """
        columns: list[Any] = [column[mask] for column in self]
        return Facts(*columns)

    def coverage(self) -> dict[str, float]:
        """Say how much of the table is filled, so that silence is not taken for innocence.

        Returns:
            Share of accounts of which each fact is known, by name, 0..1.
        """
        n = max(self.n_accounts, 1)
        return {name: _filled(getattr(self, name)) / n for name in self._fields}


#: Hashed facts, with the column of the table that each is made from.
_HASHED: dict[str, str] = {
    "org": "org",
    "payment": "payment_hash",
    "signup_network": "signup_network_hash",
    "signup_ip": "signup_ip_hash",
    "email": "email_hash",
    "email_domain": "email_domain",
    "reseller": "reseller_id",
    "phone_country": "phone_country",
    "billing_country": "billing_country",
    "plan": "plan",
}


def no_facts(n_accounts: int) -> Facts:
    """Give the facts of a log without an accounts table.

    Args:
        n_accounts: accounts of the log.

    Returns:
        Nothing known of any.
    """
    nothing = np.zeros(n_accounts, dtype=np.uint64)
    unknown = np.full(n_accounts, np.nan)
    level = np.full(n_accounts, -1, dtype=np.int8)
    known = np.zeros(n_accounts, dtype=bool)
    columns: dict[str, Any] = dict.fromkeys(_HASHED, nothing)
    return Facts(known=known, **columns, kyc_level=level, created_at=unknown, closed_at=unknown)


def facts_of(accounts: pa.Array, table: AccountTable | None) -> Facts:
    """Look the accounts of a log up in the accounts table.

    Args:
        accounts: account ids, as `Profiles.accounts` has them.
        table: the table, or None.

    Returns:
        Facts in the order of `accounts`; accounts that the table lacks have none.
    """
    if table is None or not len(table) or not len(accounts):
        return no_facts(len(accounts))
    ids = pa.array(list(table.rows), pa.large_string())
    place = pc.index_in(accounts.cast(pa.large_string()), value_set=ids)
    place = place.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    wanted = np.unique(place[place >= 0])
    every = list(table.rows.values())
    rows = [every[i] for i in wanted.tolist()]
    # The last row stands for accounts that the table lacks.
    row = np.where(place >= 0, np.searchsorted(wanted, place), len(rows))
    columns: dict[str, Any] = {"known": place >= 0}
    for name, field in _HASHED.items():
        columns[name] = np.append(hash_texts(getattr(r, field) for r in rows), np.uint64(0))[row]
    level = [-1 if r.kyc_level is None else r.kyc_level for r in rows]
    columns["kyc_level"] = np.array([*level, -1], dtype=np.int8)[row]
    columns["created_at"] = _times(rows, lambda r: r.created_at)[row]
    columns["closed_at"] = _times(rows, _closed_at)[row]
    return Facts(**columns)


def hash_texts(texts: Iterable[str | None]) -> Hashes:
    """Hash texts as the fold hashes the columns of a log.

    Args:
        texts: any number.

    Returns:
        One hash each; 0 for None and for the empty text.
    """
    return np.array(
        [xxhash.xxh3_64_intdigest(text.encode()) if text else 0 for text in texts], dtype=np.uint64
    )


def _times(rows: list[AccountRow], read: Callable[[AccountRow], float | None]) -> Floats:
    found = [read(row) for row in rows]
    return np.array([*(np.nan if time is None else time for time in found), np.nan])


def _closed_at(row: AccountRow) -> float | None:
    for tag in row.tags:
        name, _, value = tag.partition("=")
        if name.strip().lower() in _CLOSED:
            try:
                return float(value)
            except ValueError:
                continue
    return None


def _filled(column: NDArray[Any]) -> int:
    if column.dtype.kind == "f":
        return int(np.isfinite(column).sum())
    return int(((column >= 0) if column.dtype == np.int8 else (column != 0)).sum())
