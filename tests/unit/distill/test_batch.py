"""Asking by batches: nothing is sent twice, nothing is lost, and it costs the batch price."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest

from stillwatch.distill.asking.ask_table import AskSummary, AskTable
from stillwatch.distill.asking.attempts import answered_items
from stillwatch.distill.asking.batch import BatchTable, ask_batch
from stillwatch.distill.asking.batch_log import BatchLog, LogLine
from stillwatch.distill.asking.teacher import TeacherTable, identify
from stillwatch.distill.items import Item, item_id_of, write_items
from stillwatch.distill.money.budget import BATCH_TAG, BudgetTable, Ledger
from stillwatch.distill.money.prices import Price
from stillwatch.distill.permit.permission import Permission, stamp
from stillwatch.errors import InvalidInputError, ModelAuthError, ModelError, RecordError
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint
from stillwatch.record.exchange import Message
from stillwatch.record.journal import Journal, read_journal

WIRES = ("openai.chat", "openai.responses", "anthropic.messages")
QUICK = BatchTable(rows=7, first_look_s=0.01, longest_look_s=0.05, search_s=0.01)
TABLE = AskTable()
PRICE = Price(model="m", input=Decimal(2), output=Decimal(4), batch_factor=Decimal("0.5"))


def _items(count: int, *, samples: int = 1) -> list[Item]:
    found = []
    for n in range(count):
        messages = (Message("user", f"question {n}"),)
        for sample in range(samples):
            item_id = item_id_of(messages, sample=sample)
            found.append(Item(item_id=item_id, messages=messages, sample=sample))
    return found


def _teacher(endpoint: FakeEndpoint, wire: str = "openai.chat", **more: object) -> TeacherTable:
    given = {"parameters": {"max_tokens": 50}, **more}
    return TeacherTable(wire=wire, endpoint=endpoint.base_url, endpoint_id="x", model="m", **given)


def _ask(
    folder: Path,
    items: Iterable[Item],
    teacher: TeacherTable,
    *,
    ledger: Ledger | None = None,
    table: AskTable = TABLE,
    batches: BatchTable = QUICK,
) -> AskSummary:
    permission = Permission(basis="own-model", teacher="m")
    with Journal.open(folder / "journal", fsync_interval_s=0.0) as journal:
        return asyncio.run(
            ask_batch(
                items,
                teacher=teacher,
                table=table,
                ledger=ledger or Ledger(BudgetTable()),
                journal=journal,
                permission=stamp(permission, identify(teacher), time.time()),
                batches=batches,
            )
        )


def _answers(folder: Path, items: list[Item], teacher: TeacherTable) -> dict[str, str]:
    found = answered_items(folder / "journal", items, teacher)
    return {answered.item.item_id: answered.exchange.answer for answered in found}


@pytest.mark.parametrize("wire", WIRES)
def test_every_wire_is_answered_in_batches(wire: str, tmp_path: Path) -> None:
    """Every item gets its own answer, in as many batches as the limit asks for."""
    items = _items(20)
    with FakeEndpoint(FakeConfig(batch_s=0.02)) as endpoint:
        teacher = _teacher(endpoint, wire, system="Be brief.")
        summary = _ask(tmp_path, items, teacher)
        counts = endpoint.counts(with_keys=True)
    answers = _answers(tmp_path, items, teacher)
    assert ("done", 20, {"answered": 20}) == (summary.stopped, summary.n_items, summary.outcomes)
    assert (3, 20, 0) == (counts.n_batches, counts.n_billed, counts.n_billed_again)
    assert {item.item_id for item in items} == set(answers)
    assert set(counts.billed) == {answer.split()[0] for answer in answers.values()}


@pytest.mark.parametrize("wire", WIRES)
def test_what_is_answered_is_not_sent_again(wire: str, tmp_path: Path) -> None:
    """A second run sends only what is new, and nothing at all when nothing is."""
    with FakeEndpoint(FakeConfig(batch_s=0.0)) as endpoint:
        teacher = _teacher(endpoint, wire)
        _ask(tmp_path, _items(10), teacher)
        endpoint.reset()
        second = _ask(tmp_path, _items(13), teacher)
        third = _ask(tmp_path, _items(13), teacher)
        assert (10, 3, 13, 0) == (
            second.n_known, second.n_answered, third.n_known, third.n_answered
        )  # fmt: skip
        assert (1, 3) == (endpoint.counts().n_batches, endpoint.counts().n_billed)


@pytest.mark.parametrize("wire", WIRES)
def test_rows_that_failed_or_expired_are_sent_again(wire: str, tmp_path: Path) -> None:
    """Errored and expired rows go into another batch; their attempts are recorded."""
    items = _items(30)
    config = FakeConfig(batch_s=0.0, batch_errored_share=0.2, batch_expired_share=0.2)
    with FakeEndpoint(config) as endpoint:
        teacher = _teacher(endpoint, wire)
        summary = _ask(tmp_path, items, teacher)
        counts = endpoint.counts()
    assert ("done", 30, 0) == (summary.stopped, summary.n_answered, summary.n_given_up)
    assert (30, 0) == (counts.n_billed, counts.n_billed_again)
    attempts = [exchange for _, exchange in read_journal(tmp_path / "journal")]
    assert counts.n_requests == len(attempts)
    assert counts.n_requests - 30 == sum(summary.failures.values()) > 0
    assert all(exchange.tags[BATCH_TAG] for exchange in attempts)


def test_rows_that_fail_for_good_are_given_up(tmp_path: Path) -> None:
    """A row that fails more often than `retries` is given up, and asked by the next run."""
    with FakeEndpoint(FakeConfig(batch_s=0.0, batch_errored_share=1.0)) as endpoint:
        teacher = _teacher(endpoint)
        summary = _ask(tmp_path, _items(5), teacher, table=AskTable(retries=2))
        assert (5, 0, 5) == (summary.n_given_up, summary.n_answered, summary.exit_code)
        assert 15 == endpoint.counts().n_requests
        endpoint.configure(FakeConfig(batch_s=0.0))
        assert 5 == _ask(tmp_path, _items(5), teacher).n_answered


@pytest.mark.parametrize("wire", WIRES)
def test_a_batch_whose_id_never_came_is_found(wire: str, tmp_path: Path) -> None:
    """When the connection breaks after a batch was taken, it is found and not sent again."""
    with FakeEndpoint(FakeConfig(batch_s=0.1, batches_unanswered=2)) as endpoint:
        summary = _ask(tmp_path, _items(20), _teacher(endpoint, wire))
        counts = endpoint.counts()
    assert ("done", 20) == (summary.stopped, summary.n_answered)
    assert (3, 20, 0) == (counts.n_batches, counts.n_billed, counts.n_billed_again)


def test_a_batch_is_found_by_answers_of_any_length(tmp_path: Path) -> None:
    """The search reads a first result that is longer than any buffer."""
    config = FakeConfig(batch_s=0.05, batches_unanswered=1, answer_bytes=600_000)
    with FakeEndpoint(config) as endpoint:
        long = {"max_tokens": 10**6}
        teacher = _teacher(endpoint, "anthropic.messages", parameters=long)
        assert 3 == _ask(tmp_path, _items(3), teacher).n_answered
        assert (1, 3) == (endpoint.counts().n_batches, endpoint.counts().n_billed)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("known", [True, False])
def test_a_killed_run_collects_its_batches(known: bool, wire: str, tmp_path: Path) -> None:
    """Batches of a run that was killed are collected by the next, noted ids or not."""
    items = _items(20)
    with FakeEndpoint(FakeConfig(batch_s=0.3)) as endpoint:
        teacher = _teacher(endpoint, wire)

        async def killed() -> None:
            permission = stamp(
                Permission(basis="own-model", teacher="m"), identify(teacher), time.time()
            )
            with Journal.open(tmp_path / "journal") as journal:
                asking = asyncio.create_task(
                    ask_batch(
                        items, teacher=teacher, table=AskTable(), ledger=Ledger(BudgetTable()),
                        journal=journal, permission=permission, batches=QUICK,
                    )
                )  # fmt: skip
                while endpoint.counts().n_batches < 3:  # noqa: ASYNC110 - the server's counts
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

        asyncio.run(killed())
        log = tmp_path / "batches" / "batches.jsonl"
        if not known:  # as if the kill had come before the ids
            lines = [x for x in log.read_bytes().splitlines(keepends=True) if b"submitted" not in x]
            log.write_bytes(b"".join(lines) + b'{"event":"submi')
        summary = _ask(tmp_path, items, teacher)
        counts = endpoint.counts()
    assert ("done", 20, 20) == (summary.stopped, summary.n_answered, summary.n_items)
    assert (3, 20, 0) == (counts.n_batches, counts.n_billed, counts.n_billed_again)
    assert [log] == list(log.parent.iterdir())


_KILLED = """
import asyncio, sys, time
from pathlib import Path
from stillwatch.distill.asking.ask_table import AskTable
from stillwatch.distill.asking.batch import BatchTable, ask_batch
from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.items import read_items
from stillwatch.distill.permit.permission import Permission, stamp
from stillwatch.distill.asking.teacher import TeacherTable, identify
from stillwatch.record.journal import Journal

folder, url = Path(sys.argv[1]), sys.argv[2]
teacher = TeacherTable(
    endpoint=url, endpoint_id="x", model="m", parameters={"max_tokens": 50}
)
permission = stamp(Permission(basis="own-model", teacher="m"), identify(teacher), time.time())
asking = ask_batch(
    read_items(folder / "items.jsonl"), teacher=teacher, table=AskTable(),
    ledger=Ledger(BudgetTable()), journal=Journal.open(folder / "journal"),
    permission=permission, batches=BatchTable(rows=5, first_look_s=0.05, longest_look_s=0.05),
)
asyncio.run(asking)
"""


def test_nothing_is_bought_twice_after_kill_minus_nine(tmp_path: Path) -> None:
    """A process that is killed with batches under way leaves all of them to the next."""
    items = _items(40)
    write_items(tmp_path / "items.jsonl", items)
    with FakeEndpoint(FakeConfig(batch_s=0.4)) as endpoint:
        command = [sys.executable, "-c", _KILLED, str(tmp_path), endpoint.base_url]
        with subprocess.Popen(command) as child:
            deadline = time.monotonic() + 60
            while endpoint.counts().n_batches < 4 and time.monotonic() < deadline:
                time.sleep(0.005)
            child.kill()
        summary = _ask(tmp_path, items, _teacher(endpoint))
        counts = endpoint.counts()
    assert ("done", 40) == (summary.stopped, summary.n_items)
    assert (40, 0) == (counts.n_billed, counts.n_billed_again)
    assert 40 == len(_answers(tmp_path, items, _teacher(endpoint)))


def test_an_interrupted_run_leaves_its_batches_to_the_next(tmp_path: Path) -> None:
    """SIGINT ends a run at once; the next collects what is under way and sends what is left."""
    items = _items(20)
    one = BatchTable(rows=7, at_once=1, first_look_s=0.05, longest_look_s=0.05)
    with FakeEndpoint(FakeConfig(batch_s=0.5)) as endpoint:

        def interrupt() -> None:
            while not endpoint.counts().n_batches:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        other = threading.Thread(target=interrupt)
        other.start()
        first = _ask(tmp_path, items, _teacher(endpoint), batches=one)
        other.join()
        assert ("interrupted", 5, 0) == (first.stopped, first.exit_code, first.n_answered)
        endpoint.configure(FakeConfig(batch_s=0.0))
        second = _ask(tmp_path, items, _teacher(endpoint), batches=one)
        assert ("done", 20) == (second.stopped, second.n_answered)
        assert (3, 0) == (endpoint.counts().n_batches, endpoint.counts().n_billed_again)


def test_results_that_are_half_recorded_are_not_recorded_twice(tmp_path: Path) -> None:
    """A run killed between two rows of a batch records the rest, and charges each row once."""
    items = _items(7)
    with FakeEndpoint(FakeConfig(batch_s=0.0)) as endpoint:
        teacher = _teacher(endpoint)
        _ask(tmp_path / "a", items, teacher)
        whole = [exchange for _, exchange in read_journal(tmp_path / "a" / "journal")]
        # The state of a run that was killed after three of seven rows.
        batch_id = whole[0].tags[BATCH_TAG]
        log = BatchLog(tmp_path / "b" / "batches")
        with Journal.open(tmp_path / "b" / "journal") as journal:
            for exchange in whole[:3]:
                journal.append_sync(exchange)
        _lay_chunk(log, items, teacher, tag=_tag_of(tmp_path / "a"), batch_id=batch_id)
        ledger = Ledger(BudgetTable(tokens=10**6), PRICE)
        summary = _ask(tmp_path / "b", items, teacher, ledger=ledger)
        attempts = [exchange for _, exchange in read_journal(tmp_path / "b" / "journal")]
        assert (7, 7) == (len(attempts), len({e.tags["request_key"] for e in attempts}))
        assert (7, 0) == (ledger.spent.questions, ledger.spent.in_flight)
        assert (7, 7) == (summary.n_items, endpoint.counts().n_billed)


def _tag_of(folder: Path) -> str:
    first = (folder / "batches" / "batches.jsonl").read_bytes().splitlines()[0]
    return first.partition(b'"tag":"')[2].partition(b'"')[0].decode()


def _lay_chunk(
    log: BatchLog, items: list[Item], teacher: TeacherTable, *, tag: str, batch_id: str
) -> None:
    from stillwatch.distill.asking.attempts import request_key
    from stillwatch.distill.asking.batch_log import ChunkWriter, Row

    with ChunkWriter(log, opening=b"", between=b"\n") as writer:
        for item in items:
            writer.add(Row(key=request_key(item, teacher), item=item, n_input=99), b"{}")
        writer.finish(b"\n")
    log.rows_path(writer.tag).rename(log.rows_path(tag))
    log.note(LogLine(event="intent", tag=tag, at=time.time(), n_rows=len(items)))
    log.note(LogLine(event="submitted", tag=tag, at=time.time(), batch_id=batch_id))


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    """A batch refused because too much is queued is sent again later; nothing is lost."""
    with FakeEndpoint(FakeConfig(batch_s=0.05, batches_refused=2)) as endpoint:
        summary = _ask(tmp_path, _items(20), _teacher(endpoint))
        counts = endpoint.counts()
    assert ("done", 20, 0) == (summary.stopped, summary.n_answered, counts.n_billed_again)
    assert 5 == counts.n_batches


def test_batches_cost_the_batch_price(tmp_path: Path) -> None:
    """Rows are charged at the price's batch factor, now and by the run after."""
    with FakeEndpoint(FakeConfig(batch_s=0.0)) as endpoint:
        teacher = _teacher(endpoint)
        ledger = Ledger(BudgetTable(usd=Decimal(1)), PRICE)
        _ask(tmp_path, _items(10), teacher, ledger=ledger)
        counts = endpoint.counts()
        spent = (counts.input_tokens * 2 + counts.output_tokens * 4) / Decimal(2 * 10**6)
        assert (spent, 0) == (ledger.spent.usd, ledger.spent.in_flight)
        later = Ledger(BudgetTable(usd=Decimal(1)), PRICE)
        _ask(tmp_path, _items(10), teacher, ledger=later)
        assert spent == later.spent.usd


def test_a_budget_is_never_passed(tmp_path: Path) -> None:
    """What is sent is held at its worst case, so the cap holds; what was bought is kept."""
    with FakeEndpoint(FakeConfig(batch_s=0.01)) as endpoint:
        teacher = _teacher(endpoint)
        ledger = Ledger(BudgetTable(questions=11))
        summary = _ask(tmp_path, _items(30), teacher, ledger=ledger)
        assert ("budget", 3, 11) == (summary.stopped, summary.exit_code, summary.n_answered)
        assert 11 == endpoint.counts().n_billed
        tokens = Ledger(BudgetTable(tokens=1000))
        _ask(tmp_path / "tokens", _items(30), teacher, ledger=tokens)
        assert 0 < tokens.spent.tokens <= 1000


def test_batches_under_way_are_charged_though_the_budget_shrank(tmp_path: Path) -> None:
    """What an earlier run sent is collected and charged even beyond a cap that is lower now."""
    items = _items(7)
    with FakeEndpoint(FakeConfig(batch_s=0.0)) as endpoint:
        teacher = _teacher(endpoint)
        _ask(tmp_path / "a", items, teacher)
        first = next(iter(read_journal(tmp_path / "a" / "journal")))[1]
        log = BatchLog(tmp_path / "b" / "batches")
        tag, batch_id = _tag_of(tmp_path / "a"), first.tags[BATCH_TAG]
        _lay_chunk(log, items, teacher, tag=tag, batch_id=batch_id)
        ledger = Ledger(BudgetTable(questions=2))
        summary = _ask(tmp_path / "b", _items(20), teacher, ledger=ledger)
        assert (7, 7, "budget") == (summary.n_answered, ledger.spent.questions, summary.stopped)


def test_several_samples_of_a_question_are_several_rows(tmp_path: Path) -> None:
    """Samples of one question are asked as often as there are samples."""
    with FakeEndpoint(FakeConfig(batch_s=0.0)) as endpoint:
        summary = _ask(tmp_path, _items(3, samples=2), _teacher(endpoint))
        assert (6, 6) == (summary.n_answered, endpoint.counts().n_billed)


def test_what_ended_for_length_is_marked_and_not_bought_again(tmp_path: Path) -> None:
    """Truncated answers are kept as such; `again` buys them again."""
    with FakeEndpoint(FakeConfig(batch_s=0.0, truncated_share=1.0)) as endpoint:
        teacher = _teacher(endpoint)
        assert {"truncated": 4} == _ask(tmp_path, _items(4), teacher).outcomes
        assert 0 == _ask(tmp_path, _items(4), teacher).n_answered
        again = AskTable(again=("truncated",))
        assert 4 == _ask(tmp_path, _items(4), teacher, table=again).n_answered
        assert 8 == endpoint.counts().n_billed


def test_chunks_keep_to_the_limit_of_bytes(tmp_path: Path) -> None:
    """A chunk is closed before the vendor's limit of bytes, and one row always fits."""
    with FakeEndpoint(FakeConfig(batch_s=0.0)) as endpoint:
        small = BatchTable(megabytes=0.0008, first_look_s=0.01, longest_look_s=0.02)
        summary = _ask(tmp_path, _items(12), _teacher(endpoint), batches=small)
        assert 12 == summary.n_answered
        assert 3 <= endpoint.counts().n_batches <= 6


def test_a_wrong_key_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the endpoint refuses is an error, and its chunk is asked by the next run."""
    monkeypatch.setenv("KEY", "wrong")
    with FakeEndpoint(FakeConfig(api_key="right", batch_s=0.0)) as endpoint:
        teacher = _teacher(endpoint, api_key_env="KEY")
        with pytest.raises(ModelAuthError):
            _ask(tmp_path, _items(4), teacher)
        monkeypatch.setenv("KEY", "right")
        assert 4 == _ask(tmp_path, _items(4), teacher).n_answered
        assert (1, 4) == (endpoint.counts().n_batches, endpoint.counts().n_billed)


def test_an_endpoint_that_is_gone_is_told(tmp_path: Path) -> None:
    """A run whose endpoint does not answer ends with an error, and is resumed later."""
    with FakeEndpoint() as endpoint:
        teacher = _teacher(endpoint)
    with pytest.raises(ModelError, match="connection"):
        _ask(tmp_path, _items(4), teacher, table=AskTable(retries=0))


def test_a_folder_has_no_batches(tmp_path: Path) -> None:
    """A wire without a batch interface is refused by the key that asks for it."""
    teacher = TeacherTable(wire="openai.chat", endpoint="http://127.0.0.1:9/v1", model="m")
    from stillwatch.model.batch_wires import batch_client

    with pytest.raises(InvalidInputError, match="batch"):
        batch_client(teacher.endpoint, wire="folder")


def test_a_damaged_log_is_told(tmp_path: Path) -> None:
    """A line that is no event names its place; a torn last line is repaired."""
    log = BatchLog(tmp_path)
    log.note(LogLine(event="intent", tag="t", at=1.0, n_rows=1))
    path = tmp_path / "batches.jsonl"
    sound = path.read_bytes()
    path.write_bytes(sound + b'{"event":"sub')
    assert [("t", None)] == [(begun.tag, sent) for begun, sent in BatchLog(tmp_path).open_chunks()]
    assert sound == path.read_bytes()
    path.write_bytes(b"nonsense\n" + sound)
    with pytest.raises(RecordError, match=r"batches\.jsonl:1"):
        BatchLog(tmp_path)
