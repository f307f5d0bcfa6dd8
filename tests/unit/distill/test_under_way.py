"""What a kill must not forget: attempts that were sent, and may be billed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stillwatch.distill.asking.answer_index import AnswerIndex
from stillwatch.distill.asking.ask import AskSummary, AskTable, ask_items
from stillwatch.distill.asking.teacher import TeacherTable, identify
from stillwatch.distill.asking.under_way import UnderWay, charge_journal, left_behind, with_lost
from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.money.prices import Price
from stillwatch.distill.permit.permission import Permission, stamp
from stillwatch.errors import ModelAuthError
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint
from stillwatch.record.exchange import Message
from stillwatch.record.journal import Journal, read_journal

#: Input tokens that are held for "question NN": its bytes, and what a template may put around it.
_HELD_INPUT = 512 + 16 + 11
_LIMIT = 100


def _items(n: int) -> list[Item]:
    turns = [(Message("user", f"question {i:02}"),) for i in range(n)]
    return [Item(item_id=item_id_of(messages), messages=messages) for messages in turns]


def _ask(items: list[Item], folder: Path, url: str, *, ledger: Ledger, **table: Any) -> AskSummary:
    teacher = TeacherTable(endpoint=url, model="m", parameters={"max_tokens": _LIMIT})
    permission = stamp(Permission(basis="own-model", teacher="m"), identify(teacher), time.time())
    given: dict[str, Any] = {
        "concurrency": 4,
        "start": 4,
        "first_wait_s": 0.0,
        "retries": 0,
        **table,
    }
    with Journal.open(folder, fsync_interval_s=0.0) as journal:
        return asyncio.run(
            ask_items(
                items,
                teacher=teacher,
                table=AskTable(**given),
                ledger=ledger,
                journal=journal,
                permission=permission,
            )
        )


def _restored(folder: Path) -> Ledger:
    ledger = Ledger(BudgetTable(), Price(model="m", input=Decimal(1), output=Decimal(3)))
    ledger.restore(with_lost(folder, (one for _, one in read_journal(folder))))
    return ledger


@pytest.mark.parametrize(
    "config",
    [
        {"cut_share": 1.0},
        {"dropped_share": 1.0},
        {"malformed_share": 1.0},
        {"wrong_type_share": 1.0},
        {"stalled_share": 1.0, "stall_s": 0.6},
        {"error_share": 1.0},
        {"api_key": "sk-other"},
        {},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_restart_charges_what_the_run_charged(
    config: dict[str, Any], *, stream: bool, tmp_path: Path
) -> None:
    """However an attempt ends, its record costs after a restart what it cost live."""
    price = Price(model="m", input=Decimal(1), output=Decimal(3))
    ledger = Ledger(BudgetTable(), price)
    with FakeEndpoint(FakeConfig(**config)) as endpoint:
        refused = pytest.raises(ModelAuthError) if "api_key" in config else nullcontext()
        with refused:
            _ask(
                _items(3),
                tmp_path,
                endpoint.base_url,
                ledger=ledger,
                stream=stream,
                silence_s=0.2,
            )
    live, again = ledger.spent, _restored(tmp_path).spent
    assert (live.questions, live.tokens, live.usd) == (again.questions, again.tokens, again.usd)
    may_be_billed = "error_share" not in config and "api_key" not in config
    assert (3 if may_be_billed else 0) == live.questions
    assert {} == left_behind(tmp_path)


def test_a_kill_does_not_pass_the_cap(tmp_path: Path) -> None:
    """What a kill -9 left in flight is billed by the server, and counts: the cap holds there."""
    window, each = 4, _HELD_INPUT + _LIMIT
    cap = each * window
    config = FakeConfig(stalled_share=1.0, stall_s=0.3)  # answered, and billed, after the kill
    with FakeEndpoint(config) as endpoint:
        command = [sys.executable, __file__, endpoint.base_url, str(tmp_path), str(cap)]
        child = subprocess.Popen(command)
        while endpoint.counts().n_requests < window:
            assert child.poll() is None
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert window == len(left_behind(tmp_path))
        spent = _restored(tmp_path).spent
        assert (window, window * each) == (spent.questions, spent.tokens)
        ledger = Ledger(BudgetTable(tokens=cap))
        summary = _ask(_items(40), tmp_path, endpoint.base_url, ledger=ledger)
        counts = endpoint.counts()
    assert ("budget", 0) == (summary.stopped, summary.n_sent)
    assert cap == ledger.spent.tokens
    assert window == counts.n_requests
    assert {} == left_behind(tmp_path)
    assert ["lost"] * window == [one.error for _, one in read_journal(tmp_path)]


def test_an_attempt_on_record_is_not_charged_twice(tmp_path: Path) -> None:
    """A kill between the journal's write and the slot's return leaves the attempt charged once."""
    ledger = Ledger(BudgetTable())
    with FakeEndpoint() as endpoint:
        _ask(_items(3), tmp_path, endpoint.base_url, ledger=ledger)
    (first, *_) = (one for _, one in read_journal(tmp_path))
    key, number = first.tags["request_key"], first.exchange_id[-8:]
    slot = UnderWay(tmp_path)
    sent = slot.begin(key, ledger.reserve(10, 10), now=first.started_at)
    os.pwrite(slot._file, bytes.fromhex(number), 32)  # as if it were the first attempt's
    os.close(slot._file)
    assert [first.exchange_id] == list(left_behind(tmp_path))
    assert sent.exchange_id != first.exchange_id
    assert ledger.spent.tokens == _restored(tmp_path).spent.tokens
    with Journal.open(tmp_path) as journal:
        again = Ledger(BudgetTable())
        asyncio.run(charge_journal(journal, AnswerIndex(tmp_path), again))
    assert ledger.spent.tokens == again.spent.tokens
    assert {} == left_behind(tmp_path)


def test_what_is_lost_is_charged_once(tmp_path: Path) -> None:
    """Taken up once, a lost attempt is part of the journal, and costs the same ever after."""
    with Journal.open(tmp_path) as journal:
        slots = UnderWay(tmp_path)
        held = Ledger(BudgetTable())
        slots.begin("ab" * 32, held.reserve(7, 11), now=1.0)
        slots.begin("cd" * 32, held.reserve(1, 2), now=1.0)
        os.close(slots._file)  # as a kill does
        sums = []
        for _ in range(3):
            ledger = Ledger(BudgetTable())
            asyncio.run(charge_journal(journal, AnswerIndex(tmp_path), ledger))
            sums.append((ledger.spent.questions, ledger.spent.tokens))
    assert [(2, 21)] * 3 == sums
    assert 2 == len(list(read_journal(tmp_path)))


def test_slots_are_used_again(tmp_path: Path) -> None:
    """The file is as long as the window was wide, and gone when nothing is under way."""
    ledger = Ledger(BudgetTable())
    path = tmp_path / ".under-way"
    with UnderWay(tmp_path) as slots:
        for n in range(50):
            pair = [
                slots.begin(f"{n:064x}", ledger.reserve(i, i), now=float(n)) for i in range(1, 3)
            ]
            assert {one.exchange_id for one in pair} == set(left_behind(tmp_path))
            for one in pair:
                slots.end(one)
        assert 128 == path.stat().st_size
    assert not path.exists()


def test_slots_of_before_are_not_overwritten(tmp_path: Path) -> None:
    """A file that was left behind keeps what it holds while others come and go."""
    ledger = Ledger(BudgetTable())
    slots = UnderWay(tmp_path)
    kept = slots.begin("ab" * 32, ledger.reserve(1, 1), now=1.0)
    os.close(slots._file)
    with UnderWay(tmp_path) as again:
        again.end(again.begin("cd" * 32, ledger.reserve(1, 1), now=2.0))
    assert 128 == (tmp_path / ".under-way").stat().st_size
    assert [kept.exchange_id] == list(left_behind(tmp_path))


if __name__ == "__main__":  # the child that is killed
    url, folder, tokens = sys.argv[1:]
    _ask(_items(40), Path(folder), url, ledger=Ledger(BudgetTable(tokens=int(tokens))))
