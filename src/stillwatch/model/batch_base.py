"""What the vendors' batch interfaces have in common; `stillwatch.model.batch_wires` has each.

A batch is sent from a file and its results come into a file, so that neither is ever in memory.
What is dear here is a batch that is paid for twice. So every batch carries a tag of its own: in its
metadata where the vendor has such, and in every row's id. When the connection breaks before the
vendor has told a batch's id, `find` looks for the tag among the vendor's batches.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from stillwatch.model.batch_http import BatchHttp
from stillwatch.model.client import ModelUnavailableError
from stillwatch.wire.question import Reply


class SubmissionUnknownError(ModelUnavailableError):
    """A batch was sent and no reply came: it may have been taken."""


class BatchLimits(NamedTuple):
    """What one batch may hold.

    Attributes:
        n_rows: questions (count).
        n_bytes: of the file or body that is sent.
    """

    n_rows: int
    n_bytes: int


class BatchState(NamedTuple):
    """How far a batch is.

    Attributes:
        batch_id: the vendor's id.
        has_ended: whether nothing more will be answered.
        n_done: rows that have ended, of whatever end (count).
        failure: why the whole batch was refused, a short code, or None.
        results: where its results lie, for `download`.
    """

    batch_id: str
    has_ended: bool
    n_done: int
    failure: str | None
    results: tuple[str, ...]


class RowResult(NamedTuple):
    """What came of one row.

    Attributes:
        custom_id: as the row was sent.
        reply: the answer, or None.
        status: HTTP status; 0 when the row was never tried.
        code: short code of the failure, or None.
        facts: response_id, request_id, system_fingerprint, where told.
    """

    custom_id: str
    reply: Reply | None
    status: int
    code: str | None
    facts: dict[str, str]


class Search(NamedTuple):
    """What looking for a batch found.

    Attributes:
        batch_id: the batch with the tag, or None.
        doubtful: batches that may have it and do not say so yet.
    """

    batch_id: str | None
    doubtful: tuple[str, ...] = ()


class BatchClient(abc.ABC):
    """Speaks one vendor's batch interface. Use it with `async with`.

    Args:
        http: the connections.
        wire: what the rows speak.

    Attributes:
        http: the connections.
        where: the endpoint as messages name it.
        limits: what one batch may hold.
        opening: bytes before the first row of what is sent.
        between: bytes between two rows.
        closing: bytes after the last row.
    """

    limits = BatchLimits(1, 1)
    opening = b""
    between = b"\n"
    closing = b"\n"

    def __init__(self, http: BatchHttp, *, wire: str) -> None:
        self.http = http
        self.where = http.where
        self.wire = wire

    @abc.abstractmethod
    def row(self, custom_id: str, body: bytes) -> bytes:
        """Write one row.

        Args:
            custom_id: what its result is known by.
            body: the question's body, as for a single question.

        Returns:
            The row's bytes.
        """

    @abc.abstractmethod
    async def submit(self, rows: Path, *, tag: str) -> str:
        """Send a batch.

        Args:
            rows: a file of `opening`, rows with `between` them, and `closing`.
            tag: what the batch can be found by.

        Returns:
            The vendor's id.

        Raises:
            SubmissionUnknownError: it may have been taken; ask `find` before sending it again.
            ModelError: it was not taken.
        """

    @abc.abstractmethod
    async def find(self, tag: str, *, since: float, n_rows: int, known: frozenset[str]) -> Search:
        """Look for a batch that was sent and whose id never came back.

        Args:
            tag: as it was sent.
            since: when it was sent (UTC epoch seconds).
            n_rows: rows that it held (count).
            known: ids of batches that are other ones.

        Returns:
            What was found.

        Raises:
            ModelError: the endpoint did not tell.
        """

    @abc.abstractmethod
    async def state(self, batch_id: str) -> BatchState:
        """Ask how far a batch is.

        Args:
            batch_id: the vendor's id.

        Returns:
            Its state.

        Raises:
            ModelError: the endpoint did not tell.
        """

    @abc.abstractmethod
    def read_row(self, line: bytes) -> RowResult:
        """Read one line of a file of results.

        Args:
            line: it.

        Returns:
            What came of the row.

        Raises:
            ModelError: the line is none of a result.
        """

    async def download(self, place: str, path: Path) -> None:
        """Bring a file of results here; it is whole or absent.

        Args:
            place: from `BatchState.results`.
            path: where to.

        Raises:
            ModelError: it did not come.
        """
        await self.http.download(place, path)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()


def read_results(client: BatchClient, path: Path) -> Iterator[RowResult]:
    """Read a file of results, one row in memory at a time.

    Args:
        client: whose batch it was.
        path: what `download` brought.

    Yields:
        What came of each row.

    Raises:
        ModelError: a line is none of a result.
    """
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield client.read_row(line)
