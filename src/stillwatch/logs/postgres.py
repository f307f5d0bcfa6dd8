"""LiteLLM's spend log live from PostgreSQL: rows in the order of the table's own index, resumable.

One read-only transaction on one snapshot and a cursor on the server, so that a table of any size is
read in bounded memory and the proxy's writes are neither blocked nor seen half.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, RecordError, extra, reject

if TYPE_CHECKING:
    import psycopg

_TABLE = "LiteLLM_SpendLogs"
#: Rows of a fetch: with texts of some 100 KB each still bounded by about 20 MB.
_FETCH = 200
_WHERE = "SpendLogs"


class Place(NamedTuple):
    """Where reading stands: everything up to and with this row has been read.

    Attributes:
        started_at: the row's `startTime`, UTC epoch seconds.
        request_id: the row's `request_id`.
    """

    started_at: float
    request_id: str


@dataclass(frozen=True)
class SpendLogs:
    """A spend log in PostgreSQL.

    Attributes:
        dsn: connection string or URL, as libpq takes it; a password is better left to `PGPASSWORD`
            or a `.pgpass` file. It never shows in errors.
        schema: the schema that holds the table.
        settle_s: rows that started less than this many seconds ago are left for the next call. The
            proxy writes a row when its call has ended, and in batches, so a younger row may still
            appear before one that was already read. 0 reads all that is there, once.
    """

    dsn: str
    schema: str = "public"
    settle_s: float = 7200.0

    def __post_init__(self) -> None:
        if not self.settle_s >= 0:
            reject(_WHERE, "settle_s", "0 or more seconds", got=self.settle_s)

    def __repr__(self) -> str:
        return f"SpendLogs(schema={self.schema!r}, settle_s={self.settle_s!r})"


def scan_spend_logs(
    log: SpendLogs, *, after: Place | None = None, since: float | None = None
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Read rows by start time, then by id.

    Args:
        log: the table.
        after: read on after this row; the last place of an earlier call.
        since: leave out rows that started earlier, UTC epoch seconds.

    Yields:
        Each row's place, and the row by the table's column names, for the reader `litellm_spend`.

    Raises:
        MissingExtraError: psycopg is not installed.
        EnvironmentUnfitError: the server cannot be reached, or refuses the login.
        InvalidInputError: there is no such table, or no right to read it.
        RecordError: the connection broke on the way; read on after the last place.
    """
    with extra("postgres"):
        import psycopg
        from psycopg import rows, sql
    query, values = _query(log, after=after, since=since)
    with _translated(psycopg), _connection(psycopg, log) as connection:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        # What the server calls its session's zone must not matter: the column has none.
        with connection.cursor("stillwatch_spend", row_factory=rows.dict_row) as cursor:
            cursor.itersize = _FETCH
            composed = sql.SQL(query).format(table=sql.Identifier(log.schema, _TABLE))
            cursor.execute(composed, values)
            for row in cursor:
                yield Place(_epoch(row["startTime"]), str(row["request_id"])), row


def database_of(log: SpendLogs) -> str:
    """Name a table's place without its login.

    Args:
        log: the table.

    Returns:
        Host, port, database and schema as one text.

    Raises:
        MissingExtraError: psycopg is not installed.
        InvalidInputError: the connection string cannot be read.
    """
    with extra("postgres"):
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    try:
        told = conninfo_to_dict(log.dsn)
    except psycopg.ProgrammingError:
        _bad_dsn()
    parts = (told.get("host"), told.get("port"), told.get("dbname"), log.schema)
    return "\n".join(str(part or "") for part in parts)


def _bad_dsn() -> NoReturn:
    # The driver's own text quotes the string, and with it the password.
    message = f"{_WHERE}: dsn must be a PostgreSQL connection string or URL"
    raise InvalidInputError(message) from None


def _query(
    log: SpendLogs, *, after: Place | None, since: float | None
) -> tuple[str, dict[str, Any]]:
    conditions = ["\"startTime\" <= (now() AT TIME ZONE 'UTC') - make_interval(secs => %(settle)s)"]
    values: dict[str, Any] = {"settle": log.settle_s}
    if log.settle_s == 0:
        conditions = ["TRUE"]
    if since is not None:
        conditions.append('"startTime" >= %(since)s')
        values["since"] = _stamp(since)
    if after is not None:
        conditions.append('("startTime", request_id) > (%(after)s, %(id)s)')
        values |= {"after": _stamp(after.started_at), "id": after.request_id}
    text = "SELECT * FROM {table} WHERE " + " AND ".join(conditions)  # noqa: S608 - our own parts
    return text + ' ORDER BY "startTime", request_id', values


def _stamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _epoch(stamp: datetime) -> float:
    aware = stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)
    return aware.timestamp()


@contextmanager
def _connection(driver: Any, log: SpendLogs) -> Iterator[psycopg.Connection[Any]]:
    try:
        connection = driver.connect(log.dsn, connect_timeout=10, application_name="stillwatch")
    except driver.ProgrammingError:  # the connection string itself
        _bad_dsn()
    except driver.OperationalError as error:
        message = f"{_WHERE}: cannot connect to PostgreSQL ({_reason(error)})"
        hint = "check host, port, user and password of the connection string"
        raise EnvironmentUnfitError(message, hint=hint) from None
    with connection:
        yield connection


@contextmanager
def _translated(driver: Any) -> Iterator[None]:
    try:
        yield
    except (driver.errors.UndefinedTable, driver.errors.InvalidSchemaName) as error:
        message = f'{_WHERE}: database must hold the table "{_TABLE}", got none in that schema'
        raise InvalidInputError(message, hint="is this the proxy's own database?") from error
    except driver.errors.UndefinedColumn as error:
        message = f'{_WHERE}: "{_TABLE}" must have the columns startTime and request_id'
        raise InvalidInputError(message) from error
    except driver.errors.InsufficientPrivilege as error:
        message = f'{_WHERE}: the user has no right to read "{_TABLE}"'
        raise InvalidInputError(message, hint=f'GRANT SELECT ON "{_TABLE}" TO ...') from error
    except driver.Error as error:
        message = f"{_WHERE}: reading stopped ({_reason(error)})"
        raise RecordError(message, hint="read on after the last place") from None


def _reason(error: Any) -> str:
    # The server's own text may quote the login; its five letters say enough.
    return error.sqlstate or type(error).__name__
