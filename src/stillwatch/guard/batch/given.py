"""Turns the rows of results that pass by into exchanges, each once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from stillwatch.guard.batch.copying import Breath, copy_path, read_places
from stillwatch.guard.batch.ledger import Known, Submission, restored
from stillwatch.guard.batch.lines import Line
from stillwatch.guard.batch.rows import (
    Result,
    Vendor,
    json_object,
    read_result,
    read_row,
    row_key,
)
from stillwatch.guard.connections.relay import Relayed
from stillwatch.guard.keys import Principal
from stillwatch.guard.recording.recorder import MARKED_HEADER, Asked
from stillwatch.guard.routes.wires import (
    CHAT,
    COMPLETIONS,
    MESSAGES,
    RESPONSES,
    Parsed,
    Wire,
    wire_of,
)

if TYPE_CHECKING:
    from stillwatch.guard.batch.desk import Desk
    from stillwatch.guard.routes.asking import Came
    from stillwatch.guard.state import GuardState

_AT_ONCE: Final = 64  # exchanges that wait for the disk together
_BYTES_AT_ONCE: Final = 2**20  # of their answers: questions beside them need the queue too
_TURN: Final = 4  # exchanges built between two looks at other requests
_JSON: Final = (b"content-type", b"application/json")
_WIRES: Final = {
    "chat.completion": CHAT,
    "response": RESPONSES,
    "text_completion": COMPLETIONS,
    "message": MESSAGES,
}


class Told(NamedTuple):
    """A row whose answer passed by.

    Attributes:
        key: of the row.
        parsed: its question, or None when it is not known.
        wire: that it asked on; None for what is no conversation.
        result: its answer.
    """

    key: int
    parsed: Parsed | None
    wire: Wire | None
    result: Result


class Giver:
    """Records the rows of one download.

    Args:
        state: shared.
        came: who fetches.
        file: id of what is fetched: a file of results, or an Anthropic batch.
        vendor: whose results.

    Attributes:
        known: the batch, once it is known.
        marked: the model server's word that the answers carry a mark, or None.
        n_rows: rows recorded by this download (count).
    """

    def __init__(self, state: GuardState, came: Came, *, file: str, vendor: Vendor) -> None:
        self._state = state
        self._desk: Desk = state.batches
        self._came = came
        self._file = file
        self._vendor = vendor
        self.known: Known | None = None
        self.marked: str | None = None
        self.n_rows = 0

    async def add(self, lines: Sequence[Line]) -> None:
        """Record the rows that some lines give out.

        Args:
            lines: of a file of results, whole.
        """
        texts = [line.text for line in lines if line.text]
        if len(texts) < len(lines):
            self._state.metrics.count("batch_rows_unread", len(lines) - len(texts))
        told = await self._desk.run(self._match, texts)
        known = self.known
        if not told or known is None:
            return
        try:
            for group in _groups(told):
                await self._record(known, group)
            await self._desk.run(
                self._desk.ledger.mark_given, known.batch_id, [row.key for row in told]
            )
        finally:
            self._desk.claimed.difference_update((known.batch_id, row.key) for row in told)

    async def _record(self, known: Known, told: Sequence[Told]) -> None:
        writing: list[asyncio.Task[None]] = []
        for number, row in enumerate(told, start=1):
            if row.wire is not None:
                asked = asked_of(self._state, known, row.key, wire=row.wire, parsed=row.parsed)
                asked.address = self._came.address
                relayed = self._relayed(known, row.result)
                writing.append(asyncio.create_task(self._state.recorder.answered(asked, relayed)))
                self.n_rows += 1
            if number % _TURN == 0:
                await asyncio.sleep(0)
        if writing:
            await asyncio.wait(writing)

    def _relayed(self, known: Known, result: Result) -> Relayed:
        took_s = max(0.0, self._came.now - known.submission.asked_at)
        pairs = [_JSON]
        if self.marked is not None:
            pairs.append((MARKED_HEADER, self.marked.encode("latin-1", "replace")))
        return Relayed(
            status=result.status,
            pairs=pairs,
            chunks=[result.body],
            is_whole=True,
            error=result.error,
            first_s=took_s,
            whole_s=took_s,
        )

    def _match(self, texts: Sequence[bytes]) -> list[Told]:
        """Find the questions of some results; in the worker thread."""
        breath = Breath()
        results: dict[int, Result] = {}
        for text in texts:
            result = read_result(self._vendor, text)
            if result is not None:
                results.setdefault(row_key(result.custom_id), result)
            breath.take()
        if not results:
            return []
        known = self.known = self.known or self._find(next(iter(results)))
        if known.is_closed:
            return []
        desk = self._desk
        done = desk.ledger.given(known.batch_id, results)
        fresh = [key for key in results
                 if key not in done and (known.batch_id, key) not in desk.claimed]  # fmt: skip
        desk.claimed.update((known.batch_id, key) for key in fresh)
        asked = questions(desk, known, fresh)
        return [_told(key, known, asked.get(key), result=results[key]) for key in fresh]

    def _find(self, key: int) -> Known:
        """Find the batch that a file answers; one that was made elsewhere begins here."""
        ledger, account = self._desk.ledger, self._came.principal.account
        known = ledger.find(self._file) or ledger.of_file(self._file)
        known = known or ledger.with_row(account, key)
        if known is not None:
            return known
        now = self._came.now
        who = Submission(account, self._came.principal.key_hash, self._vendor, now)
        ledger.begin(self._file, who, None)
        return ledger.find(self._file) or Known(self._file, who, None, False, None)


def questions(desk: Desk, known: Known, keys: Sequence[int]) -> dict[int, tuple[Wire, Parsed]]:
    """Read the questions of rows from the copy of their input; blocks.

    Args:
        desk: has the copy.
        known: the batch.
        keys: of the rows.

    Returns:
        Wire and question by key, of those that are conversations and can be read.
    """
    if known.copy is None:
        return {}
    places = list(desk.copies.places(known.copy, keys).values())
    breath = Breath()
    found: dict[int, tuple[Wire, Parsed]] = {}
    submission = known.submission
    lines = read_places(copy_path(desk.folder, known.copy), places)
    for place, line in zip(places, lines, strict=True):
        row = read_row(submission.vendor, line, endpoint=submission.endpoint)
        parsed = row.parsed() if row is not None else None
        if row is not None and row.wire is not None and parsed is not None:
            found[place.key] = row.wire, parsed
        breath.take()
    return found


def asked_of(
    state: GuardState, known: Known, key: int, *, wire: Wire, parsed: Parsed | None
) -> Asked:
    """Give a row the form of a question at the gateway.

    Args:
        state: shared.
        known: its batch.
        key: of the row.
        wire: that it asks on.
        parsed: the question, or None when it is not known.

    Returns:
        The question, with the decision on its batch; the id is the same whenever it is built.
    """
    who = known.submission
    decision = restored(who.decision)
    digest = hashlib.blake2b(f"{known.batch_id}\0{key}".encode(), digest_size=12).hexdigest()
    tags = {**who.tags, **(decision.tags or {}), "channel": "batch", "batch": known.batch_id}
    if parsed is None:
        tags["question"] = "not seen"
    else:
        tags |= state.callers.tags({}, parsed.question.parameters)
    return Asked(
        exchange_id=f"batch-{digest}",
        principal=Principal(who.account, who.key_hash, who.org),
        question=parsed.question if parsed is not None else None,
        decision=decision,
        started_at=who.asked_at,
        user_agent=who.user_agent,
        tags=tags,
        wire=wire,
        session=parsed.session if parsed is not None else None,
        keeps_bodies="log_full" in decision.effects,
    )


def _groups(told: Sequence[Told]) -> Iterator[list[Told]]:
    """Cut rows into groups that may wait for the disk together."""
    group: list[Told] = []
    size = 0
    for row in told:
        group.append(row)
        size += len(row.result.body)
        if len(group) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group


def _told(key: int, known: Known, asked: tuple[Wire, Parsed] | None, *, result: Result) -> Told:
    if asked is not None:
        return Told(key, asked[1], asked[0], result)
    who = known.submission
    wire = MESSAGES if who.vendor == "anthropic" else wire_of(who.endpoint)
    if wire is None and not who.endpoint:
        body = json_object(result.body)
        kind = body.get("object", body.get("type"))
        wire = _WIRES.get(kind) if isinstance(kind, str) else None
    return Told(key, None, wire, result)
