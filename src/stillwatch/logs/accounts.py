"""The accounts side table: what a provider knows of accounts that no log carries.

Every column is optional but `account`. Addresses, e-mails and payment marks are hashed while they
are read, under the same key as the logs, so that a sign-up address can be compared with those that
questions come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillwatch.errors import reject
from stillwatch.logs.fields import (
    account_of,
    decoded,
    epoch,
    first_text,
    hashed,
    network,
    text,
    tokens,
)
from stillwatch.logs.read import decode_line
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.source import blocks, find_sources, records_of
from stillwatch.logs.unit import Block, Fault
from stillwatch.record.batches import with_column


class AccountRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one account; None means not known.

    Attributes:
        account: the account id, as `Exchange.account` has it.
        org: organisation.
        created_at: when it was opened (UTC epoch seconds).
        signup_ip_hash: keyed hash of the address it was opened from.
        signup_network_hash: keyed hash of that address's network.
        email_hash: keyed hash of its e-mail address, in lower case.
        email_domain: the domain of that address, in lower case.
        phone_country: country of its telephone number, as given.
        payment_hash: keyed hash of its payment mark (card fingerprint, account number).
        billing_country: country of its bills, as given.
        kyc_level: how well its holder is known: 0 not at all, 1 telephone, 2 payment, 3 identity,
            4 owners attested.
        reseller_id: who sold the access.
        plan: what it pays for.
        tags: further facts.
    """

    account: str
    org: str | None = None
    created_at: float | None = None
    signup_ip_hash: str | None = None
    signup_network_hash: str | None = None
    email_hash: str | None = None
    email_domain: str | None = None
    phone_country: str | None = None
    payment_hash: str | None = None
    billing_country: str | None = None
    kyc_level: int | None = None
    reseller_id: str | None = None
    plan: str | None = None
    tags: tuple[str, ...] = ()


ACCOUNTS_SCHEMA: pa.Schema = pa.schema([
    (name, {"created_at": pa.float64(), "kyc_level": pa.int32(), "tags": pa.list_(pa.string())}
     .get(name, pa.string()))
    for name in AccountRow.__struct_fields__
])  # fmt: skip


class Joined(NamedTuple):
    """A batch with what the table adds.

    Attributes:
        batch: with `org` filled from the table where the log gave none.
        n_known: rows whose account is in the table (count).
    """

    batch: pa.RecordBatch
    n_known: int


class AccountTable:
    """Rows by account.

    Args:
        rows: one an account.
    """

    def __init__(self, rows: Mapping[str, AccountRow]) -> None:
        self.rows = dict(rows)
        self._accounts = pa.array(list(self.rows), pa.string())
        self._orgs = pa.array([row.org for row in self.rows.values()], pa.string())

    def __len__(self) -> int:
        return len(self.rows)

    def join(self, batch: pa.RecordBatch) -> Joined:
        """Join by account.

        Args:
            batch: of the store's schema.

        Returns:
            The batch, and how many of its rows the table knows.
        """
        place = pc.index_in(batch["account"], value_set=self._accounts)
        n_known = len(place) - place.null_count
        if n_known:
            org = pc.coalesce(batch["org"], self._orgs.take(place))
            batch = with_column(batch, "org", org)
        return Joined(batch, n_known)

    def write(self, path: Path) -> None:
        """Write the table as Parquet, sorted by account.

        Args:
            path: replaced if it exists.
        """
        rows = [msgspec.structs.asdict(self.rows[name]) for name in sorted(self.rows)]
        hidden = path.with_name(f".{path.name}.part")
        pq.write_table(pa.Table.from_pylist(rows, ACCOUNTS_SCHEMA), hidden, compression="zstd")
        hidden.replace(path)


def load_accounts(
    path: str, options: ReadOptions, *, on_fault: Callable[[Fault], None] = lambda _: None
) -> AccountTable:
    """Read an accounts table.

    Args:
        path: CSV, JSON lines (or an array), or Parquet; gzip and zstd as for logs.
        options: holds the key.
        on_fault: told of rows that cannot be read, and of accounts listed twice (the first stands).

    Returns:
        The table.

    Raises:
        InvalidInputError: there is no such file, or no row of it names an account.
    """
    rows: dict[str, AccountRow] = {}
    for source in find_sources([path]):
        for found in blocks(source):
            if isinstance(found, Fault):
                on_fault(found)
                continue
            for origin, record in _records(found):
                row = _row(record, options=options, origin=origin)
                if isinstance(row, AccountRow) and row.account in rows:
                    row = Fault(*origin, "the account is listed before; the first row stands")
                if isinstance(row, Fault):
                    on_fault(row)
                else:
                    rows[row.account] = row
    if not rows:
        reject("accounts", path, "a table with a column `account`", got="no row that has one")
    return AccountTable(rows)


def _records(block: Block) -> list[tuple[Origin, Any]]:
    if block.kind == "batch":
        found: list[Any] = records_of(block.records)
    elif block.kind == "rows":
        found = block.records
    else:
        return [
            (origin, decode_line(line, origin))
            for number, line in enumerate(block.records, start=block.first)
            if line.strip() and (origin := Origin(block.file, number))
        ]
    return [(Origin(block.file, n), row) for n, row in enumerate(found, start=block.first)]


def _row(record: Any, *, options: ReadOptions, origin: Origin) -> AccountRow | Fault:
    if isinstance(record, Fault):
        return record
    if not isinstance(record, Mapping):
        return Fault(*origin, "the row is no object")
    account = account_of(options, record.get("account"))
    if not account:
        return Fault(*origin, "the row names no account")
    address = network(options, record.get("signup_ip"))
    email, domain = _email(first_text(record.get("email"), record.get("email_domain")))
    return AccountRow(
        account=account,
        org=text(record.get("org")),
        created_at=epoch(record.get("created_at"), options=options),
        # A table that was written here holds hashes already, and they stand.
        signup_ip_hash=address.ip_hash or text(record.get("signup_ip_hash")),
        signup_network_hash=address.network_hash or text(record.get("signup_network_hash")),
        email_hash=hashed(options, "email", email) or text(record.get("email_hash")),
        email_domain=domain,
        phone_country=text(record.get("phone_country")),
        payment_hash=hashed(options, "payment", record.get("payment_fp"))
        or text(record.get("payment_hash")),
        billing_country=text(record.get("billing_country")),
        kyc_level=_level(record.get("kyc_level")),
        reseller_id=text(record.get("reseller_id")),
        plan=text(record.get("plan")),
        tags=_tags(record.get("tags")),
    )


def _email(value: str | None) -> tuple[str | None, str | None]:
    if value is None:
        return None, None
    name, at, domain = value.strip().lower().rpartition("@")
    return (f"{name}@{domain}" if at and name else None), domain or None


def _level(value: object) -> int | None:
    found = tokens(value)
    return found if found is not None and found <= 4 else None


def _tags(value: object) -> tuple[str, ...]:
    found = decoded(value)
    if isinstance(found, str):
        found = [part.strip() for part in found.replace(";", ",").split(",")]
    if isinstance(found, Mapping):
        found = [f"{name}={part}" for name, part in found.items()]
    return tuple(str(part) for part in found if part) if isinstance(found, list | tuple) else ()
