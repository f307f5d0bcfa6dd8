"""The spend log is read from a real PostgreSQL server, resumably and without being disturbed."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, RecordError
from stillwatch.logs.postgres import Place, SpendLogs, database_of, scan_spend_logs
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers.litellm_spend import READER
from stillwatch.logs.spend_update import update_from_spend_logs
from stillwatch.logs.unit import Fault
from stillwatch.record.privacy import KeyedHash
from stillwatch.record.store import count_exchanges, read_store

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
FIXTURE = Path(__file__).parents[2] / "fixtures" / "logs" / "litellm_spend" / "rows.jsonl"
#: The columns and types of the proxy's own schema.
TABLE = """
CREATE TABLE "LiteLLM_SpendLogs" (
    request_id TEXT PRIMARY KEY, call_type TEXT NOT NULL, api_key TEXT NOT NULL DEFAULT '',
    spend DOUBLE PRECISION NOT NULL DEFAULT 0, total_tokens INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0,
    "startTime" TIMESTAMP(3) NOT NULL, "endTime" TIMESTAMP(3) NOT NULL,
    request_duration_ms INTEGER, "completionStartTime" TIMESTAMP(3),
    model TEXT NOT NULL DEFAULT '', model_id TEXT, model_group TEXT, custom_llm_provider TEXT,
    api_base TEXT, "user" TEXT, metadata JSONB, cache_hit TEXT, cache_key TEXT, request_tags JSONB,
    team_id TEXT, organization_id TEXT, end_user TEXT, requester_ip_address TEXT, messages JSONB,
    response JSONB, session_id TEXT, status TEXT, mcp_namespaced_tool_name TEXT, agent_id TEXT,
    proxy_server_request JSONB
);
CREATE INDEX ON "LiteLLM_SpendLogs" ("startTime", request_id);
"""


def _programs() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


def _owner() -> str | None:
    """PostgreSQL refuses to run as root: then it runs as its own user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("as root, a user `postgres` is needed to start PostgreSQL")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of our own on a socket of its own; its connection string."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server programs on this machine")
    owner = _owner()
    folder = Path(tempfile.mkdtemp(prefix="spend-", dir="/tmp"))
    if owner is not None:
        shutil.chown(folder, owner)
    data = folder / "data"

    def call(*command: str) -> None:
        subprocess.run(
            command, check=True, user=owner, cwd=folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    call(str(programs / "initdb"), "-D", str(data), "-U", "keeper", "-A", "trust", "-N")
    settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    control = str(programs / "pg_ctl")
    call(control, "-D", str(data), "-l", str(folder / "log"), "-o", settings, "-w", "start")
    try:
        yield f"host={folder} user=keeper dbname=postgres"
    finally:
        call(control, "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def connection(server: str) -> Iterator[Any]:
    """A connection to the server with an empty spend log."""
    with psycopg.connect(server, autocommit=True) as opened:
        opened.execute('DROP TABLE IF EXISTS "LiteLLM_SpendLogs"')
        opened.execute(TABLE)
        yield opened


def _rows() -> list[dict[str, Any]]:
    found = [json.loads(line) for line in FIXTURE.read_text().splitlines()]
    return [row for row in found if row["startTime"] != "yesterday"]


def _insert(connection: Any, row: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(["%s"] * len(row))
    values = [json.dumps(v) if isinstance(v, dict | list) else v for v in row.values()]
    connection.execute(f'INSERT INTO "LiteLLM_SpendLogs" ({names}) VALUES ({marks})', values)  # noqa: S608 - our own names


def _fill(connection: Any) -> list[dict[str, Any]]:
    rows = _rows()
    for row in reversed(rows):
        _insert(connection, row)
    return rows


def _all(server: str, **more: Any) -> list[tuple[Place, dict[str, Any]]]:
    return list(scan_spend_logs(SpendLogs(server, settle_s=0), **more))


def test_rows_give_the_exchanges_that_a_dump_gives(server: str, connection: Any) -> None:
    """Live rows, with the server's own types, read as the same rows do from JSON lines."""
    rows = _fill(connection)
    conversion = READER.begin(ReadOptions(KeyedHash(bytes(32))))
    at = Origin("postgres", 1)
    live = [e for _, row in _all(server) for e in conversion.convert(row, at)]
    assert [e for row in rows for e in conversion.convert(row, at)] == live


def test_reading_goes_on_after_the_last_place(server: str, connection: Any) -> None:
    """A reader that stopped anywhere reads on there: nothing twice, nothing left out."""
    _fill(connection)
    # Two rows of one millisecond must be told apart too.
    _insert(connection, {**_rows()[2], "request_id": "0f7e-s3b"})
    whole = [row["request_id"] for _, row in _all(server)]
    assert 8 == len(whole)
    for n in range(1, 8):
        begun = list(islice(scan_spend_logs(SpendLogs(server, settle_s=0)), n))
        rest = _all(server, after=begun[-1][0])
        ids = [row["request_id"] for _, row in [*begun, *rest]]
        assert whole == ids


def test_rows_before_a_time_are_left_out(server: str, connection: Any) -> None:
    """`since` is a start time, inclusive."""
    _fill(connection)
    places = [place for place, _ in _all(server)]
    since = [place for place, _ in _all(server, since=places[3].started_at)]
    assert places[3:] == since


def test_young_rows_wait_until_they_have_settled(server: str, connection: Any) -> None:
    """A row that may still be joined by an earlier one is left for the next call."""
    _fill(connection)
    young = {**_rows()[3], "request_id": "young"}
    _insert(connection, young)
    connection.execute(
        'UPDATE "LiteLLM_SpendLogs" SET "startTime" = now() AT TIME ZONE \'UTC\' '
        "- interval '60 seconds' WHERE request_id = 'young'"
    )
    ids = [row["request_id"] for _, row in scan_spend_logs(SpendLogs(server, settle_s=900))]
    assert "young" not in ids
    ids = [row["request_id"] for _, row in scan_spend_logs(SpendLogs(server, settle_s=30))]
    assert "young" == ids[-1]


def test_the_proxy_may_write_meanwhile(server: str, connection: Any) -> None:
    """Reading sees one moment of the table, and holds up nobody who writes."""
    _fill(connection)
    reading = scan_spend_logs(SpendLogs(server, settle_s=0))
    first = next(reading)[1]["request_id"]
    _insert(connection, {**_rows()[0], "request_id": "late"})
    connection.execute("DELETE FROM \"LiteLLM_SpendLogs\" WHERE request_id = 'msg_s5'")
    ids = [first, *(row["request_id"] for _, row in reading)]
    assert ("late" in ids, "msg_s5" in ids, 7) == (False, True, len(ids))


def test_nothing_can_be_changed_through_the_reader(server: str, connection: Any) -> None:
    """The transaction is read-only for the server: even a view that writes when read fails."""
    connection.execute("""
        DROP SCHEMA IF EXISTS trap CASCADE;
        CREATE SCHEMA trap;
        CREATE TABLE trap.touched (n INTEGER);
        CREATE FUNCTION trap.touch() RETURNS INTEGER LANGUAGE sql
            AS 'INSERT INTO trap.touched VALUES (1) RETURNING n';
        CREATE VIEW trap."LiteLLM_SpendLogs" AS
            SELECT now()::timestamp AS "startTime", 'r' AS request_id, trap.touch() AS spend;
    """)
    with pytest.raises(RecordError, match="25006"):  # read_only_sql_transaction
        next(scan_spend_logs(SpendLogs(server, schema="trap", settle_s=0)))
    assert (0,) == connection.execute("SELECT count(*) FROM trap.touched").fetchone()


def test_a_reader_that_is_left_lets_go_of_the_server(server: str, connection: Any) -> None:
    """Closing a half-read log ends its connection."""
    _fill(connection)
    reading = scan_spend_logs(SpendLogs(server, settle_s=0))
    next(reading)
    state = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stillwatch'"
    assert (1,) == connection.execute(state).fetchone()
    reading.close()
    assert (0,) == _settled(connection, state)


def _settled(connection: Any, query: str) -> Any:
    for _ in range(100):
        found = connection.execute(query).fetchone()
        if found == (0,):
            break
        connection.execute("SELECT pg_sleep(0.02)")
    return found


def test_a_store_is_brought_up_to_date_again_and_again(
    server: str, connection: Any, tmp_path: Path
) -> None:
    """Each call adds what came since the last; an interrupted one is made good by the next."""
    rows = _rows()
    for row in rows[:3]:
        _insert(connection, row)
    log, options = SpendLogs(server, settle_s=0), ReadOptions(KeyedHash(bytes(32)))
    store = tmp_path / "store"

    def update() -> tuple[int, int, int]:
        found = update_from_spend_logs(log, store, options=options)
        return found.n_rows, found.n_exchanges, count_exchanges(store)

    assert (3, 3, 3) == update()
    assert (0, 0, 3) == update()
    for row in rows[3:]:
        _insert(connection, row)
    (state,) = store.glob("spend-*.json")
    place = state.read_bytes()
    assert (4, 4, 7) == update()
    state.write_bytes(place)  # as if it had been killed before the place moved on
    assert (4, 4, 7) == update()
    ids = sorted(exchange.exchange_id for exchange in read_store(store))
    assert sorted(row["request_id"] for row in rows) == ids


def test_a_row_without_a_real_time_is_counted_not_lost(
    server: str, connection: Any, tmp_path: Path
) -> None:
    """A row with a time before 1970 is a fault, and the rows after it are read."""
    _insert(connection, {**_rows()[0], "request_id": "old", "startTime": "0001-01-01 00:00:00"})
    _fill(connection)
    log, options = SpendLogs(server, settle_s=0), ReadOptions(KeyedHash(bytes(32)))
    faults: list[Fault] = []
    found = update_from_spend_logs(log, tmp_path / "store", options=options, on_fault=faults.append)
    assert (8, 7, 1) == (found.n_rows, found.n_exchanges, found.n_faults)
    assert [("postgres", 1)] == [(fault.file, fault.line) for fault in faults]


def test_a_missing_table_is_named(server: str) -> None:
    """A database that is not the proxy's is refused by the table's name."""
    log = SpendLogs(server, schema="elsewhere", settle_s=0)
    with pytest.raises(InvalidInputError, match="LiteLLM_SpendLogs"):
        next(scan_spend_logs(log))


def test_a_missing_right_is_named(server: str, connection: Any) -> None:
    """A user without the right to read is told which grant it needs."""
    connection.execute("DROP ROLE IF EXISTS stranger")
    connection.execute("CREATE ROLE stranger LOGIN")
    with pytest.raises(InvalidInputError, match="no right to read"):
        next(scan_spend_logs(SpendLogs(server.replace("keeper", "stranger"), settle_s=0)))


@pytest.mark.parametrize(
    ("dsn", "kind"),
    [
        ("host=/nowhere user=u password=hunter2", EnvironmentUnfitError),
        ("postgresql://u:hunter2@127.0.0.1:1/db", EnvironmentUnfitError),
        ("no equals sign hunter2", InvalidInputError),
    ],
)
def test_a_password_never_shows(dsn: str, kind: type[Exception]) -> None:
    """Neither an error nor what led to it, nor the table's name for people, holds the login."""
    log = SpendLogs(dsn)
    with pytest.raises(kind) as caught:
        next(scan_spend_logs(log))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert "hunter2" not in repr(log)


def test_a_damaged_place_is_not_read_past(tmp_path: Path) -> None:
    """A place file that cannot be read stops the update, and says what removing it would do."""
    dsn = "host=/nowhere dbname=d"
    name = hashlib.sha256(database_of(SpendLogs(dsn)).encode()).hexdigest()[:16]
    (tmp_path / f"spend-{name}.json").write_text("{")
    with pytest.raises(RecordError, match="cannot be read"):
        update_from_spend_logs(SpendLogs(dsn), tmp_path, options=ReadOptions(KeyedHash(bytes(32))))
    assert "secret" not in database_of(SpendLogs("postgresql://u:secret@h/d"))


def test_a_negative_settling_time_is_refused() -> None:
    """The future cannot be read."""
    with pytest.raises(InvalidInputError, match="settle_s"):
        SpendLogs("", settle_s=-1)
