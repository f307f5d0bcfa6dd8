"""What a learner keeps from day to day: nothing is learned twice, lost, or held without bound."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.unit.guard.conftest import served
from tests.unit.guard.webs import DAY_S, WEB, day_of, write_days, write_journal

from stillwatch.detect import FoldConfig, Profiles, fold
from stillwatch.guard.config import GuardConfig, LearnerConfig
from stillwatch.guard.learning import folding
from stillwatch.guard.learning.daybook import DayBook
from stillwatch.guard.learning.folding import RecordFolder
from stillwatch.guard.learning.learned import Learned
from stillwatch.guard.learning.learner import Learner
from stillwatch.guard.recording.audit import read_audit
from stillwatch.guard.wall.orders import Order
from stillwatch.record.erasure import erase_lines, remove_erased
from stillwatch.record.exchange import to_batch
from stillwatch.record.store import compact, write_store

Make = Callable[..., GuardConfig]
FOLD = FoldConfig()
FAR = -1_000_000


@pytest.fixture
def learning(make_config: Make, tmp_path: Path) -> GuardConfig:
    """A configuration with a reference of honest days."""
    reference = tmp_path / "reference"
    write_store(reference, [e for day in range(6) for e in day_of(day, web=False)])
    learner = LearnerConfig(every_s=0.0, reference=reference, fdr=0.05)
    return make_config(learner=learner)


def _folder(config: GuardConfig, *, store: Path | None = None) -> tuple[RecordFolder, DayBook]:
    book = DayBook(config.profiles_path, FOLD)
    return RecordFolder(config.journal_path, book, fold=FOLD, store=store), book


def _plain(profiles: Profiles) -> list[object]:
    """Lay profiles out as plain data, to compare them."""
    found: list[object] = [profiles.accounts.to_pylist(), profiles.level]
    for column in (*profiles.totals, *profiles.digests):
        values = getattr(column, "values", column)
        found.append(values.tolist() if hasattr(values, "tolist") else values.to_pylist())
    return found


def _at_once(days: range) -> list[object]:
    return _plain(fold([to_batch([e for day in days for e in day_of(day, web=True)])], FOLD))


def _same(learned: Learned) -> list[tuple[object, ...]]:
    return [(c.campaign_id, c.accounts, c.p_value, c.evidence) for c in learned.campaigns]


def test_folded_once_and_whole(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding day by day, lot by lot, with restarts in between, is folding everything at once."""
    monkeypatch.setattr(folding, "_LOT", 100)
    monkeypatch.setattr(folding, "_SAVE_AFTER", 150)
    config = make_config()
    write_days(config.journal_path, range(10, 13))
    n_folded = 0
    for until in (10.5, 11.0, 11.2, 13.0):
        record, book = _folder(config)
        n_folded += record.update(until * DAY_S, oldest=FAR).n_exchanges
        record.save(oldest=FAR)
    assert sum(len(day_of(day, web=True)) for day in range(10, 13)) == n_folded
    assert [10, 11, 12] == book.days()
    assert _at_once(range(10, 13)) == _plain(book.whole(FAR))
    fresh = DayBook(config.profiles_path, FOLD)
    assert fresh.open(_journal_id(config))
    assert _at_once(range(10, 13)) == _plain(fresh.whole(FAR))


def _journal_id(config: GuardConfig) -> str:
    book = msgspec.json.decode((config.profiles_path / "book.json").read_bytes())
    return str(book["journal_id"])


def test_kill_between_files(make_config: Make) -> None:
    """A save that was cut off before its book counts for nothing: its exchanges are read again."""
    config = make_config()
    write_days(config.journal_path, range(10, 12))
    record, _ = _folder(config)
    record.update(11 * DAY_S, oldest=FAR)
    record.save(oldest=FAR)
    book = (config.profiles_path / "book.json").read_bytes()
    kept = [p.name for p in config.profiles_path.iterdir() if p.is_dir()]
    copies = config.profiles_path.with_name("copies")
    shutil.copytree(config.profiles_path, copies)
    record.update(12 * DAY_S, oldest=FAR)
    record.save(oldest=FAR)
    # As it looks when the folders of a later save are there and its book is not.
    for path in copies.iterdir():
        if path.is_dir() and path.name not in {p.name for p in config.profiles_path.iterdir()}:
            shutil.copytree(path, config.profiles_path / path.name)
        elif path.is_file():
            shutil.copy(path, config.profiles_path / path.name)
    assert book == (config.profiles_path / "book.json").read_bytes()
    again, book_again = _folder(config)
    assert len(day_of(11, web=True)) == again.update(12 * DAY_S, oldest=FAR).n_exchanges
    assert _at_once(range(10, 12)) == _plain(book_again.whole(FAR))
    again.save(oldest=FAR)
    assert 2 == sum(path.is_dir() for path in config.profiles_path.iterdir())
    assert 1 == len(kept)


@pytest.mark.parametrize("damage", ["book", "folder", "journal"])
def test_useless_book(make_config: Make, damage: str) -> None:
    """A book that is damaged, or of another journal, is not trusted: everything is folded again."""
    config = make_config()
    write_days(config.journal_path, range(10, 12))
    record, _ = _folder(config)
    record.update(12 * DAY_S, oldest=FAR)
    record.save(oldest=FAR)
    if damage == "book":
        (config.profiles_path / "book.json").write_bytes(b"{")
    elif damage == "folder":
        (next(config.profiles_path.glob("*/profiles.json"))).unlink()
    else:
        shutil.rmtree(config.journal_path)
        write_days(config.journal_path, range(10, 12))
    again, book = _folder(config)
    assert (
        sum(len(day_of(day, web=True)) for day in (10, 11))
        == again.update(12 * DAY_S, oldest=FAR).n_exchanges
    )
    assert _at_once(range(10, 12)) == _plain(book.whole(FAR))


def test_tail_is_bounded(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What began after the time learned of waits in bounded memory, and none of it is lost."""
    monkeypatch.setattr(folding, "MOST_WAITING", 50)
    config = make_config()
    write_days(config.journal_path, range(10, 13))
    record, book = _folder(config)
    record.update(11 * DAY_S, oldest=FAR)
    assert 50 == record.n_waiting
    record.save(oldest=FAR)
    again, book = _folder(config)
    again.update(13 * DAY_S, oldest=FAR)
    assert 0 == again.n_waiting
    assert _at_once(range(10, 13)) == _plain(book.whole(FAR))


def test_window(make_config: Make) -> None:
    """Days before the window go, from the answer and from the disk."""
    config = make_config()
    write_days(config.journal_path, range(10, 13))
    record, book = _folder(config)
    record.update(13 * DAY_S, oldest=10)
    record.save(oldest=10)
    assert _at_once(range(11, 13)) == _plain(book.whole(11))
    late = day_of(12, web=True)[0]
    write_journal(config.journal_path, [msgspec.structs.replace(late, exchange_id="late")])
    record.update(13 * DAY_S, oldest=12)
    record.save(oldest=12)
    assert [12] == book.days()
    assert 1 == sum(path.is_dir() for path in config.profiles_path.iterdir())


def test_memory_is_given_back(make_config: Make) -> None:
    """Between learnings profiles beyond the bound are read again from the disk."""
    config = make_config()
    write_days(config.journal_path, range(10, 12))
    record, book = _folder(config)
    record.update(12 * DAY_S, oldest=FAR)
    before = book.whole(FAR)
    book.rest(most_bytes=2**30)
    assert before is book.whole(FAR)
    book.rest(most_bytes=0)
    assert before is not book.whole(FAR)
    assert _plain(before) == _plain(book.whole(FAR))


def test_cold_start(learning: GuardConfig) -> None:
    """A new learner finds what one finds that was there from the beginning."""
    write_days(learning.journal_path, range(10, 12))
    first = Learner(learning)
    first.learn(12 * DAY_S)
    first.close()
    write_days(learning.journal_path, range(12, 14))
    second = Learner(learning)
    learned = second.learn(14 * DAY_S)
    second.close()
    assert sum(len(day_of(day, web=True)) for day in (12, 13)) == learned.n_folded
    shutil.rmtree(learning.profiles_path)
    third = Learner(learning)
    from_the_beginning = third.learn(14 * DAY_S)
    third.close()
    assert WEB == frozenset(learned.campaigns[0].accounts)
    assert _same(from_the_beginning) == _same(learned)
    assert learned.n_accounts == from_the_beginning.n_accounts == 110


def test_segments_are_gone(learning: GuardConfig, tmp_path: Path) -> None:
    """Where old segments were removed, the store that they were compacted to speaks for them."""
    days = [e for day in range(10, 14) for e in day_of(day, web=True)]
    write_journal(learning.journal_path, days, segment_bytes=20_000)
    whole = Learner(learning)
    expected = whole.learn(14 * DAY_S)
    whole.close()
    shutil.rmtree(learning.profiles_path)
    store = tmp_path / "store"
    compact(learning.journal_path, store)
    erase_lines(learning.journal_path, lambda place, raw: True, dry_run=False)
    assert remove_erased(learning.journal_path) > 2
    late = [msgspec.structs.replace(e, exchange_id="x" + e.exchange_id) for e in days[:5]]
    write_journal(learning.journal_path, late)
    cold = Learner(replace(learning, learner=replace(learning.learner, store=store)))
    learned = cold.learn(14 * DAY_S)
    cold.close()
    assert len(days) + 5 == learned.n_folded
    assert [c.accounts for c in expected.campaigns] == [c.accounts for c in learned.campaigns]
    assert WEB == frozenset(learned.campaigns[0].accounts)


def test_false_positives_are_reference(learning: GuardConfig) -> None:
    """Accounts that a person called honest join what findings are calibrated on."""
    write_days(learning.journal_path, range(10, 12))
    learner = Learner(learning)
    (found,) = learner.learn(12 * DAY_S).campaigns
    learner._table.false_positive(Order(found.campaign_id, "false_positive"))
    honest = learner._calibration(learner._book.whole(FAR), 12 * DAY_S)
    assert honest is not None
    assert WEB <= frozenset(honest.accounts.to_pylist())
    learner.close()


async def test_stuck(make_config: Make) -> None:
    """A learner that does not answer is killed and replaced, and the gateway counts it."""
    config = make_config(learner=LearnerConfig(every_s=0.0, deadline_s=0.5))
    async with served(config) as gateway, asyncio.timeout(60):
        stuck = gateway.state.link.pid
        assert stuck is not None
        os.kill(stuck, signal.SIGSTOP)
        status, body = await gateway.admin("POST", "/stillwatch/admin/learn", until=1.0)
        assert (503, True) == (status, b"has not answered for 0.5 s" in body)
        assert 1 == gateway.state.metrics.value("learnings", result="stuck")
        assert ("alive", True) == (gateway.state.link.state, stuck != gateway.state.link.pid)
        assert 200 == (await gateway.ask())[0]


async def test_lag(make_config: Make) -> None:
    """A learning tells how long the oldest of its exchanges waited for it."""
    async with served(make_config(learner=LearnerConfig(every_s=0.0))) as gateway:
        await gateway.ask()
        status, body = await gateway.admin("POST", "/stillwatch/admin/learn")
        learned = msgspec.json.decode(body, type=Learned)
        assert (200, 1, "alone") == (status, learned.n_folded, learned.role)
        assert learned.lag_s is not None
        assert 0 < learned.seconds < learned.lag_s + 60
        assert learned == gateway.state.link.last


def test_web_in_the_reference(make_config: Make, tmp_path: Path) -> None:
    """A web that the reference itself holds is left out of it, counted and put on the audit log."""
    reference = tmp_path / "reference"
    write_store(reference, [e for day in range(6) for e in day_of(day, web=True)])
    config = make_config(learner=LearnerConfig(every_s=0.0, reference=reference, fdr=0.05))
    write_days(config.journal_path, range(10, 12))
    learner = Learner(config)
    learned = learner.learn(12 * DAY_S)
    learner.close()
    assert len(WEB) == learned.n_vetted_out
    assert WEB == frozenset(learned.campaigns[0].accounts)
    (event,) = [e for e in read_audit(config.audit_path) if e.kind == "reference-vetted"]
    assert {"webs": 1, "accounts": len(WEB)} == event.detail
