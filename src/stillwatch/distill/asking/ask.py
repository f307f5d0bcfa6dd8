"""Asks a teacher: every attempt is recorded, no answer is lost, nothing is bought twice.

The order of events for one question: its worst case is reserved in the ledger; it goes out when
the pace allows; what comes back is settled, written to the journal, and counted only once the
journal has it on the disk. A run that is killed at any moment goes on from its journal: what is
answered there is not asked again, so a crash costs at most the questions that were under way, and
those are charged at their worst case, for nobody knows whether they were billed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

from stillwatch.distill.asking.ask_folder import ModelAsker
from stillwatch.distill.asking.ask_loop import Asker
from stillwatch.distill.asking.ask_queue import Permit, Sources
from stillwatch.distill.asking.ask_table import AskProgress, AskSummary, AskTable
from stillwatch.distill.asking.attempts import AnswerIndex
from stillwatch.distill.asking.bodies import bodies_of
from stillwatch.distill.asking.teacher import TeacherTable, secret_headers
from stillwatch.distill.asking.under_way import UnderWay, charged
from stillwatch.distill.items import Item
from stillwatch.distill.money.budget import Ledger
from stillwatch.distill.permit.addresses import shown
from stillwatch.errors import NotPermittedError
from stillwatch.model.client import EndpointClient, Timeouts
from stillwatch.model.huggingface import open_folder
from stillwatch.model.protocol import Model
from stillwatch.record.journal import Journal

__all__ = ["AskProgress", "AskSummary", "AskTable", "ask_items"]

#: How long a journal of answers gathers before it syncs (seconds): a worker waits for its answer's.
GROUP_S = 0.002
#: How often progress is told (seconds).
_TELL_S = 0.25


async def ask_items(  # noqa: PLR0913 - the seams of a run, each of them somebody else's
    items: Iterable[Item],
    *,
    teacher: TeacherTable,
    table: AskTable,
    ledger: Ledger,
    journal: Journal,
    permission: Permit,
    on_progress: Callable[[AskProgress], None] | None = None,
    answers: AnswerIndex | None = None,
    model: Model | None = None,
) -> AskSummary:
    """Ask what the record has no answer to yet.

    What the journal holds is charged to the ledger, which must not have been charged with it
    before; with `answers`, only what that index had not read. The first SIGINT or SIGTERM ends the
    run cleanly; the second does what it always does.

    Args:
        items: what is to be asked, in this order; read as it is asked.
        teacher: who is asked.
        table: how.
        ledger: what may be spent.
        journal: where every attempt is recorded.
        permission: the stamp for this teacher.
        on_progress: called a few times a second.
        answers: the journal's index, for who asks many times with one ledger; None makes one.
        model: the teacher of the wire `folder`, opened; None opens it.

    Returns:
        What it came to; a budget that is reached is no error.

    Raises:
        NotPermittedError: the permission is for another teacher, or has run out.
        ModelAuthError: the endpoint refused the key, or the account has no means left.
        ConfigError: an environment variable that the teacher's table names is not set.
        RecordError: the journal cannot be read or written.
        EnvironmentUnfitError: the disk is full.
    """
    check_stamp(permission, teacher)
    async with charged(journal, answers, ledger) as index:
        bodies = bodies_of(teacher)
        sources = Sources(items, index, bodies, teacher, table, ledger, journal, permission)
        if teacher.wire == "folder":
            opened = model or open_folder(Path(teacher.folder), name=teacher.model or None)
            return await _run(ModelAsker(sources, opened), on_progress)
        with UnderWay(journal.folder) as under_way:
            async with _client(teacher, table) as client:
                return await _run(Asker(sources, client, under_way), on_progress)


def _client(teacher: TeacherTable, table: AskTable) -> EndpointClient:
    return EndpointClient(
        teacher.endpoint,
        wire=teacher.wire,
        headers={**teacher.headers, **secret_headers(teacher)},
        timeouts=Timeouts(table.connect_s, table.silence_s, table.total_s),
        connections=table.concurrency,
    )


async def _run(
    asker: Asker | ModelAsker, on_progress: Callable[[AskProgress], None] | None
) -> AskSummary:
    with stopped_by_signals(asker.interrupt):
        async with telling(asker.progress, on_progress):
            return await asker.run()


def check_stamp(permission: Permit, teacher: TeacherTable) -> None:
    """Insist that a permission is for the teacher that is about to be asked.

    Args:
        permission: the stamp.
        teacher: who is asked.

    Raises:
        NotPermittedError: it is for another model or endpoint.
    """
    identity = bodies_of(teacher).identity
    found = (permission.model, permission.endpoint)
    if found != (identity.model, shown(identity.endpoint)):
        message = f"the permission is stamped for {found[0]!r}, and {identity.model!r} is asked"
        if found[0] == identity.model:
            message = f"the permission for {found[0]!r} is stamped for another endpoint"
        raise NotPermittedError(message, hint="stamp the permission for this teacher")


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first SIGINT or SIGTERM, and leave the second to whom it belonged.

    Args:
        stop: ends the work cleanly.

    Yields:
        Nothing; outside of the main thread signals are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def first() -> None:
        restore()
        stop()

    for number in before:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        restore()


@contextlib.asynccontextmanager
async def telling(
    look: Callable[[], AskProgress], tell: Callable[[AskProgress], None] | None
) -> AsyncIterator[None]:
    """Tell progress at intervals, and once at the end.

    Args:
        look: gives where the work stands.
        tell: is told, or None.

    Yields:
        Nothing.
    """
    if tell is None:
        yield
        return

    async def keep_telling() -> None:
        while True:
            await asyncio.sleep(_TELL_S)
            tell(look())

    task = asyncio.create_task(keep_telling())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        tell(look())
