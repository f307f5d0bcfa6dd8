"""Asking: nothing lost, nothing bought twice, no budget passed, a clean end whatever happens."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stillwatch.distill.asking.ask import AskProgress, AskSummary, AskTable, ask_items
from stillwatch.distill.asking.ask_folder import ModelAsker
from stillwatch.distill.asking.ask_queue import Sources
from stillwatch.distill.asking.attempts import AnswerIndex, answered_items
from stillwatch.distill.asking.bodies import bodies_of
from stillwatch.distill.asking.teacher import TeacherTable, identify
from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.permit.permission import Permission, PermissionStamp, stamp
from stillwatch.errors import ConfigError, InvalidInputError, ModelAuthError, NotPermittedError
from stillwatch.model.fake import FakeModel
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint
from stillwatch.record.exchange import Exchange, Message
from stillwatch.record.journal import Journal, read_journal
from stillwatch.siege.teachers import house_teacher

QUICK = AskTable(concurrency=16, first_wait_s=0.005)


def _recorded(folder: Path) -> list[Exchange]:
    return [exchange for _, exchange in read_journal(folder)]


def _stamp(teacher: TeacherTable) -> PermissionStamp:
    return stamp(Permission(basis="own-model", teacher="m"), identify(teacher), time.time())


def _items(n: int) -> list[Item]:
    turns = [(Message("user", f"question number {i}"),) for i in range(n)]
    return [Item(item_id=item_id_of(messages), messages=messages) for messages in turns]


def _teacher(url: str, **fields: object) -> TeacherTable:
    return TeacherTable(endpoint=url, model="m", parameters={"max_tokens": 100}, **fields)


async def _ask(
    items: list[Item],
    folder: Path,
    teacher: TeacherTable,
    *,
    table: AskTable | None = None,
    budget: BudgetTable | None = None,
) -> AskSummary:
    table = table or AskTable(concurrency=32, first_wait_s=0.01)
    with Journal.open(folder, fsync_interval_s=0.002) as journal:
        return await ask_items(
            items,
            teacher=teacher,
            table=table,
            ledger=Ledger(budget or BudgetTable()),
            journal=journal,
            permission=_stamp(teacher),
        )


async def test_all_answered_and_again_none(tmp_path: Path) -> None:
    """Each question is asked once and recorded with its tags; a second run asks nothing."""
    items = _items(120)
    with FakeEndpoint() as endpoint:
        teacher = _teacher(endpoint.base_url)
        first = await _ask([*items, items[0]], tmp_path, teacher)
        second = await _ask(items, tmp_path, teacher)
        counts = endpoint.counts()
    assert (0, 121, 120, 1) == (first.exit_code, first.n_items, first.n_answered, first.n_repeated)
    assert (0, 120, 0) == (second.exit_code, second.n_known, second.n_sent)
    assert (120, 120) == (counts.n_requests, counts.n_distinct)
    assert (120, counts.output_tokens) == (second.spend.questions, second.spend.output_tokens)
    found = list(answered_items(tmp_path, items, teacher))
    assert items == [answered.item for answered in found]
    tags = found[7].exchange.tags
    assert (items[7].item_id, "0", "1", "answered") == (
        tags["item_id"], tags["sample"], tags["attempt"], tags["outcome"]
    )  # fmt: skip
    assert "fp_fake" == tags["system_fingerprint"]


def test_killed_half_way(tmp_path: Path) -> None:
    """After kill -9 no answer on record is asked for again: what is, was in flight."""
    n_items, window = 400, 32 + 16
    config = FakeConfig(delay_s=0.01)
    with FakeEndpoint(config) as endpoint:
        command = [sys.executable, __file__]
        child = subprocess.Popen([*command, endpoint.base_url, str(tmp_path), str(n_items)])
        while endpoint.counts().n_billed < n_items // 2:
            assert child.poll() is None
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        kept = len(_recorded(tmp_path))
        items, teacher = _items(n_items), _teacher(endpoint.base_url)
        summary = asyncio.run(_ask(items, tmp_path, teacher))
        counts = endpoint.counts()
    assert kept == summary.n_known
    assert n_items == counts.n_distinct == len(list(answered_items(tmp_path, items, teacher)))
    assert n_items - kept == summary.n_sent
    assert window >= counts.n_requests - n_items >= 0


async def test_changes_ask_anew(tmp_path: Path) -> None:
    """Another system prompt, parameter or endpoint asks anew; the old answers stay theirs."""
    items = _items(5)
    with FakeEndpoint() as endpoint, FakeEndpoint() as other:
        first = _teacher(endpoint.base_url)
        changed = [
            _teacher(endpoint.base_url, system="be brief"),
            _teacher(other.base_url),
            TeacherTable(endpoint=endpoint.base_url, model="m", parameters={"max_tokens": 99}),
        ]
        for teacher in (first, *changed, first):
            await _ask(items, tmp_path, teacher)
        assert (15, 5) == (endpoint.counts().n_requests, other.counts().n_requests)
    answers = [
        [a.exchange.answer for a in answered_items(tmp_path, items, teacher)]
        for teacher in (first, changed[0])
    ]
    assert [5, 5] == [len(texts) for texts in answers]
    assert not set(answers[0]) & set(answers[1])


async def test_marked_not_bought_again(tmp_path: Path) -> None:
    """Truncated and refused answers are marked and bought once, or again where asked for."""
    config = FakeConfig(truncated_share=0.3, refused_share=0.2, refusal="field")
    items = _items(60)
    with FakeEndpoint(config) as endpoint:
        teacher = _teacher(endpoint.base_url)
        first = await _ask(items, tmp_path, teacher)
        await _ask(items, tmp_path, teacher)
        assert 60 == endpoint.counts().n_billed
        again = await _ask(items, tmp_path, teacher, table=AskTable(again=("truncated",)))
    assert {"answered", "truncated", "refused"} == set(first.outcomes)
    assert first.outcomes["truncated"] == again.n_answered == again.outcomes["truncated"]
    found = Counter(a.exchange.tags["outcome"] for a in answered_items(tmp_path, items, teacher))
    assert first.outcomes == found


async def test_failing_server(tmp_path: Path) -> None:
    """Errors, cut, dropped and unreadable replies are recorded, tried again and all mended."""
    config = FakeConfig(
        error_share=0.1, cut_share=0.05, dropped_share=0.05, malformed_share=0.05,
        wrong_type_share=0.05, overloaded_share=0.05,
    )  # fmt: skip
    with FakeEndpoint(config) as endpoint:
        summary = await _ask(_items(150), tmp_path, _teacher(endpoint.base_url), table=QUICK)
        counts = endpoint.counts()
    recorded = _recorded(tmp_path)
    assert (0, 150, 0) == (summary.exit_code, summary.n_answered, summary.n_given_up)
    assert counts.n_requests == summary.n_sent == len(recorded)
    assert summary.n_sent - 150 == sum(summary.failures.values())
    assert {"500 server_error", "503 server_error", "cut", "disconnected", "200 unreadable"} == set(
        summary.failures
    )
    assert 150 == sum(e.tags["outcome"] == "answered" for e in recorded)
    assert all(not e.answers for e in recorded if e.error)


async def test_slowed_down(tmp_path: Path) -> None:
    """Under a bucket of 429s all is answered, and few questions are put off."""
    config = FakeConfig(rate_per_s=400, burst=40, retry_after="ms")
    with FakeEndpoint(config) as endpoint:
        summary = await _ask(_items(300), tmp_path, _teacher(endpoint.base_url))
        counts = endpoint.counts()
    assert (0, 300, 300) == (summary.exit_code, summary.n_answered, counts.n_billed)
    assert summary.n_limited == counts.statuses[429] < 100


@pytest.mark.parametrize(
    ("budget", "share"),
    [({"questions": 20}, 1.0), ({"tokens": 8_000}, 0.4), ({"tokens": 8_000, "questions": 9}, 0.1)],
)
async def test_budget(tmp_path: Path, budget: dict[str, Any], share: float) -> None:
    """A cap is never passed and mostly used, also over several runs; the run ends with 3."""
    caps = BudgetTable(**budget)
    with FakeEndpoint(FakeConfig(answer_bytes=300)) as endpoint:
        teacher = _teacher(endpoint.base_url)
        for _ in range(2):
            summary = await _ask(_items(300), tmp_path, teacher, budget=caps)
            assert (3, "budget") == (summary.exit_code, summary.stopped)
        counts = endpoint.counts()
    tokens = counts.input_tokens + counts.output_tokens
    assert counts.n_billed <= (caps.questions or 300)
    assert tokens <= (caps.tokens or tokens)
    most = max(
        counts.n_billed / caps.questions if caps.questions else 0,
        tokens / caps.tokens if caps.tokens else 0,
    )
    assert most >= share
    assert summary.hint


@pytest.mark.parametrize(
    ("wire", "system"),
    [("openai.chat", ""), ("openai.responses", "be brief"), ("anthropic.messages", "be brief")],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_wires(tmp_path: Path, wire: str, system: str, *, stream: bool) -> None:
    """The three wires give the same questions and answers, whole or streamed."""
    items = _items(8)
    with FakeEndpoint(FakeConfig(answer_bytes=60)) as endpoint:
        teacher = _teacher(endpoint.base_url, wire=wire, system=system)
        summary = await _ask(items, tmp_path, teacher, table=AskTable(stream=stream))
        counts = endpoint.counts(with_keys=True)
    exchanges = [a.exchange for a in answered_items(tmp_path, items, teacher)]
    assert ({"answered": 8}, 8 if stream else 0) == (summary.outcomes, counts.n_streamed)
    assert [e.answer.partition(" ")[0] for e in exchanges] == list(counts.asked)
    assert {wire} == {e.wire for e in exchanges}
    assert {system} == {e.system for e in exchanges}
    assert counts.output_tokens == sum(e.output_tokens or 0 for e in exchanges)


async def test_wrong_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused key ends the run at once, and is told without the key; a missing one is named."""
    monkeypatch.setenv("TEACHER_KEY", "sk-wrong")
    with FakeEndpoint(FakeConfig(api_key="sk-right")) as endpoint:
        teacher = _teacher(endpoint.base_url, api_key_env="TEACHER_KEY")
        with pytest.raises(ModelAuthError) as caught:
            await _ask(_items(200), tmp_path, teacher)
        assert endpoint.counts().n_requests < 64
        monkeypatch.setenv("TEACHER_KEY", "sk-right")
        assert 200 == (await _ask(_items(200), tmp_path, teacher)).n_answered
    assert "sk-" not in str(caught.value)
    assert "sk-" not in repr(_recorded(tmp_path))
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(ConfigError, match="TEACHER_KEY must be set"):
        await _ask(_items(1), tmp_path, teacher)


async def test_nobody_there(tmp_path: Path) -> None:
    """A server that is down ends the run after its retries, incomplete, with a reason."""
    with FakeEndpoint() as endpoint:
        teacher = _teacher(endpoint.base_url)
    table = AskTable(retries=1, first_wait_s=0.001)
    summary = await _ask(_items(500), tmp_path, teacher, table=table)
    assert ("unanswered", 5) == (summary.stopped, summary.exit_code)
    assert summary.n_given_up >= 20
    assert "cannot connect" in summary.problem


async def test_interrupted(tmp_path: Path) -> None:
    """The first SIGINT lets what is under way finish, and what was answered is kept."""
    items = _items(2_000)
    with FakeEndpoint(FakeConfig(delay_s=0.02)) as endpoint:
        teacher = _teacher(endpoint.base_url)
        asyncio.get_running_loop().call_later(0.15, os.kill, os.getpid(), signal.SIGINT)
        before = signal.getsignal(signal.SIGINT)
        summary = await _ask(items, tmp_path, teacher)
        assert before == signal.getsignal(signal.SIGINT)
        counts = endpoint.counts()
    assert ("interrupted", 5) == (summary.stopped, summary.exit_code)
    assert 0 < summary.n_answered < 2_000
    assert summary.n_answered == counts.n_billed == len(_recorded(tmp_path))


async def test_permission(tmp_path: Path) -> None:
    """A stamp for another model or endpoint, or one that has run out, asks nothing."""
    with FakeEndpoint() as endpoint, Journal.open(tmp_path) as journal:
        teacher = _teacher(endpoint.base_url)
        good = _stamp(teacher)
        stamps = {
            "stamped for another endpoint": _stamp(_teacher("http://127.0.0.1:1/v1")),
            "ran out": type(good)(**{**_fields(good), "expires_at": 1.0}),
            "stamped for 'o'": type(good)(**{**_fields(good), "model": "o"}),
        }
        for reason, permission in stamps.items():
            with pytest.raises(NotPermittedError, match=reason):
                await ask_items(
                    _items(3),
                    teacher=teacher,
                    table=QUICK,
                    ledger=Ledger(BudgetTable()),
                    journal=journal,
                    permission=permission,
                )
        assert 0 == endpoint.counts().n_requests


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


async def test_progress(tmp_path: Path) -> None:
    """Progress ends with everything done and the spending of the ledger."""
    told: list[AskProgress] = []
    items = _items(40)
    with FakeEndpoint() as endpoint, Journal.open(tmp_path) as journal:
        teacher = _teacher(endpoint.base_url)
        summary = await ask_items(
            items,
            teacher=teacher,
            table=QUICK,
            ledger=Ledger(BudgetTable()),
            journal=journal,
            permission=_stamp(teacher),
            on_progress=told.append,
        )
    last = told[-1]
    assert (40, 40, 40, 0) == (last.n_items, last.n_done, last.n_sent, last.in_flight)
    assert summary.spend == last.spend


@pytest.mark.parametrize("questions", [None, 7])
async def test_model_in_this_process(tmp_path: Path, questions: int | None) -> None:
    """A model in this process is asked in batches, into the same record, within the budget."""
    model, items = FakeModel.echo(), _items(20)
    teacher = _teacher("http://127.0.0.1:1/v1")
    n_asked = questions or 20
    for n_before in (0, n_asked):
        with Journal.open(tmp_path) as journal:
            index, ledger = AnswerIndex(journal.folder), Ledger(BudgetTable(questions=questions))
            ledger.restore(index.reading())
            sources = Sources(
                items=items,
                answers=index,
                bodies=bodies_of(teacher),
                teacher=teacher,
                table=AskTable(batch_size=8),
                ledger=ledger,
                journal=journal,
                permission=_stamp(teacher),
            )
            summary = await ModelAsker(sources, model).run()
        assert n_asked - n_before == summary.n_answered
    assert n_asked == len(model.questions)
    assert (3 if questions else 0) == summary.exit_code
    found: list[tuple[Item, str]] = [
        (a.item, a.exchange.answer) for a in answered_items(tmp_path, items, teacher)
    ]
    assert [(item, item.question) for item in items[:n_asked]] == found


@pytest.mark.slow
async def test_local_folder(tmp_path: Path) -> None:
    """A local model folder is asked into the same record, and nothing twice."""
    turns = [(Message("user", text),) for text in ("14 July 1789 in ISO", "3 May 2001 in ISO")]
    items = [Item(item_id=item_id_of(messages), messages=messages) for messages in turns]
    folder = house_teacher("house-skills")
    teacher = TeacherTable(wire="folder", folder=str(folder), model="m")
    runs = [await _ask(items, tmp_path, teacher) for _ in range(2)]
    assert [(2, 0), (0, 2)] == [(run.n_answered, run.n_known) for run in runs]
    found = list(answered_items(tmp_path, items, teacher))
    assert ["1789-07-14", "2001-05-03"] == [a.exchange.answer for a in found]
    assert {("other", identify(teacher).endpoint)} == {
        (a.exchange.wire, a.exchange.origin) for a in found
    }


@pytest.mark.parametrize(
    "fields", [{"concurrency": 0}, {"tokens_per_minute": 0}, {"retries": -1}, {"silence_s": 0}]
)
def test_table_refuses(fields: dict[str, Any]) -> None:
    """Limits that let nothing through are refused by name."""
    with pytest.raises(InvalidInputError, match=next(iter(fields))):
        AskTable(**fields)


if __name__ == "__main__":  # the child that is killed
    url, folder, n = sys.argv[1:]
    asyncio.run(_ask(_items(int(n)), Path(folder), _teacher(url)))
