"""The accounts table: typed, hashed, joined."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.logs.accounts import ACCOUNTS_SCHEMA, AccountRow, load_accounts
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.unit import Fault
from stillwatch.record.exchange import Exchange, to_batch
from stillwatch.record.privacy import KeyedHash

KEY = KeyedHash(bytes(32))
OPTIONS = ReadOptions(KEY)
ROWS = [
    {"account": "u-1", "org": "org-9", "created_at": "2025-01-31T10:00:00Z",
     "signup_ip": "198.51.100.7", "email_domain": "Kim@Example.org", "payment_fp": "card-4711",
     "kyc_level": "2", "plan": "pro", "phone_country": "NZ",
     "billing_country": "NZ", "reseller_id": "r-1", "tags": "early,loud"},
    {"account": "u-2", "email_domain": "example.com", "kyc_level": "9"},
]  # fmt: skip
WANTED = AccountRow(
    account="u-1",
    org="org-9",
    created_at=1738317600.0,
    signup_ip_hash=KEY.address("198.51.100.7"),
    signup_network_hash=KEY.network("198.51.100.7"),
    email_hash=KEY.hash("email", "kim@example.org"),
    email_domain="example.org",
    phone_country="NZ",
    payment_hash=KEY.hash("payment", "card-4711"),
    billing_country="NZ",
    kyc_level=2,
    reseller_id="r-1",
    plan="pro",
    tags=("early", "loud"),
)


def _write(folder: Path, kind: str) -> str:
    path = folder / f"accounts.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)))
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=1))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        names = list(ROWS[0])
        lines = [names, *([f'"{row.get(name, "")}"' for name in names] for row in ROWS)]
        path.write_text("\n".join(",".join(line) for line in lines))
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet"])
def test_each_form_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    """CSV, JSON and Parquet give the same typed rows; addresses and marks only as hashes."""
    table = load_accounts(_write(tmp_path, kind), OPTIONS)
    assert WANTED == table.rows["u-1"]
    assert AccountRow(account="u-2", email_domain="example.com") == table.rows["u-2"]


def test_join_fills_what_the_log_lacks(tmp_path: Path) -> None:
    """The table's organisation stands where the log has none; the log's own stays."""
    table = load_accounts(_write(tmp_path, "csv"), OPTIONS)
    batch = to_batch([
        Exchange(exchange_id="a", account="u-1", started_at=1.0),
        Exchange(exchange_id="b", account="u-1", started_at=1.0, org="own"),
        Exchange(exchange_id="c", account="u-2", started_at=1.0),
        Exchange(exchange_id="d", account="stranger", started_at=1.0),
    ])
    joined = table.join(batch)
    assert ["org-9", "own", None, None] == joined.batch["org"].to_pylist()
    assert (3, batch.schema) == (joined.n_known, joined.batch.schema)


def test_written_table_has_no_secret(tmp_path: Path) -> None:
    """What is written holds neither address nor e-mail nor payment mark."""
    table = load_accounts(_write(tmp_path, "jsonl"), OPTIONS)
    table.write(tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert ACCOUNTS_SCHEMA == found.schema
    assert ["u-1", "u-2"] == found["account"].to_pylist()
    written = str(found.to_pylist()).lower()
    assert [] == [word for word in ("198.51", "kim", "4711") if word in written]


def test_bad_rows_are_told(tmp_path: Path) -> None:
    """A row without an account, a second row of one, and a broken line are told."""
    path = tmp_path / "accounts.jsonl"
    path.write_text('{"account":"u"}\n{"org":"o"}\n{"account":"u","org":"x"}\n{\n7\n')
    faults: list[Fault] = []
    table = load_accounts(str(path), OPTIONS, on_fault=faults.append)
    assert {"u": AccountRow(account="u")} == table.rows
    assert [2, 3, 4, 5] == [fault.line for fault in faults]
    path.write_text('{"org":"o"}\n')
    with pytest.raises(InvalidInputError, match="a column `account`"):
        load_accounts(str(path), OPTIONS)


def test_a_written_table_reads_back(tmp_path: Path) -> None:
    """What `write` hashed is read as it stands: the same rows, whoever holds the key."""
    table = load_accounts(_write(tmp_path, "csv"), ReadOptions(KEY))
    table.write(tmp_path / "written.parquet")
    again = load_accounts(str(tmp_path / "written.parquet"), ReadOptions(KeyedHash(b"other" * 8)))
    assert table.rows == again.rows
