"""The models beside a run's asking: any wire, recorded, one purse, each journal read once."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

from stillwatch.distill.asking.answer_index import AnswerIndex
from stillwatch.distill.asking.under_way import UnderWay, left_behind
from stillwatch.distill.checks import Row, check_of
from stillwatch.distill.checks.judge import JudgeCheck, JudgeOptions
from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.money.budget import BudgetTable, Ledger
from stillwatch.distill.run import Run
from stillwatch.distill.stages.run_models import open_judge, open_teacher
from stillwatch.errors import BudgetReachedError, StillwatchError
from stillwatch.model.fake import FakeModel
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint
from stillwatch.model.protocol import Question
from stillwatch.record.exchange import Exchange, Message
from stillwatch.record.journal import Journal, read_journal
from stillwatch.siege.teachers import house_teacher

WIRES = {
    "openai.chat": "max_tokens",
    "openai.responses": "max_output_tokens",
    "anthropic.messages": "max_tokens",
}
ROWS = [
    Row("4", said, Item(item_id=item_id_of(asked), messages=asked))
    for said, asked in (("four", (Message("user", "2+2?"),)), ("5", (Message("user", "2+2 ?"),)))
]


def _verdicts() -> dict[str, str]:
    """What a good judge says to each of its questions: "four" is right, "5" is wrong."""
    asker = JudgeCheck(JudgeOptions(), FakeModel(lambda question: "unused"))
    return {
        asker._question(row, swapped=swap).messages[-1].content: (
            "VERDICT: A" if (row.answer == "four") != swap else "VERDICT: B"
        )
        for row in ROWS
        for swap in (False, True)
    }


def _run(folder: Path, judge: str, *, teacher: str = "http://127.0.0.1:9/v1") -> Run:
    path = folder / "RUN.toml"
    path.write_text(
        '[permission]\nbasis = "own-model"\nteacher = "m"\n'
        f'[teacher]\nendpoint = "{teacher}"\nmodel = "m"\nparameters = {{ max_tokens = 9 }}\n'
        f'[questions]\nfiles = ["pool.jsonl"]\n[ask]\nfirst_wait_s = 0.0\n{judge}'
    )
    (folder / "pool.jsonl").write_text(json.dumps({"question": "1+1?"}) + "\n")
    return Run.load(path)


def _recorded(folder: Path) -> list[Exchange]:
    return [one for _, one in read_journal(folder)]


def _judged(run: Run) -> list[bool | None]:
    check = check_of("judge", None, judge=open_judge(run))
    return [one.correct for one in asyncio.run(check.judge_many(ROWS))]


@pytest.mark.parametrize("wire", list(WIRES))
def test_a_judge_speaks_every_wire(
    wire: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its key in the wire's own header, recorded, paid from the budget, and not twice."""
    monkeypatch.setenv("JUDGE_KEY", "sk-judge")
    with FakeEndpoint(FakeConfig(answers=_verdicts(), api_key="sk-judge")) as endpoint:
        judge = (
            f'[judge]\nwire = "{wire}"\nendpoint = "{endpoint.base_url}"\nmodel = "j"\n'
            f'api_key_env = "JUDGE_KEY"\nparameters = {{ {WIRES[wire]} = 64 }}\n'
            "[budget]\nusd = 1.0\n[prices]\ninput = 1.0\noutput = 1.0\n"
        )
        run = _run(tmp_path, judge)
        assert [True, False] == _judged(run)
        again = _run(tmp_path, judge)
        assert [True, False] == _judged(again)
        counts = endpoint.counts()
    assert 4 == counts.n_requests == len(_recorded(run.folder.judge_journal))
    billed = Decimal(counts.input_tokens + counts.output_tokens) / 1_000_000
    for one in (run, again):
        book = asyncio.run(one.books.open(one.folder.journal))
        assert (4, billed) == (book.ledger.spent.questions, book.ledger.spent.usd)
    assert {wire} == {one.wire for one in _recorded(run.folder.judge_journal)}


def test_a_judge_in_this_process_costs_nothing(tmp_path: Path) -> None:
    """A folder judges too: recorded, free, and unknown where it gives no verdict."""
    folder = house_teacher("house-skills")
    run = _run(
        tmp_path, f'[judge]\nwire = "folder"\nfolder = "{folder}"\n[budget]\nquestions = 0\n'
    )
    assert [None, None] == _judged(run)
    assert 4 == len(_recorded(run.folder.judge_journal))
    book = asyncio.run(run.books.open(run.folder.journal))
    assert 0 == book.ledger.spent.questions


def test_a_judge_and_a_teacher_share_the_purse(tmp_path: Path) -> None:
    """What the judge bought a moment ago is missing when the teacher is asked next."""
    asked = [Question(messages=(Message("user", f"{n}?"),)) for n in range(3)]
    with FakeEndpoint(FakeConfig(answers=_verdicts())) as endpoint:
        judge = f'[judge]\nendpoint = "{endpoint.base_url}"\nmodel = "j"\n[budget]\nquestions = 6\n'
        run = _run(tmp_path, judge, teacher=endpoint.base_url)
        teacher = open_teacher(run)
        asyncio.run(teacher.answer(asked[:1]))
        assert [True, False] == _judged(run)
        asyncio.run(teacher.answer(asked[:2]))
        with pytest.raises(BudgetReachedError):
            asyncio.run(teacher.answer(asked))
        assert 6 == endpoint.counts().n_billed


def test_a_judge_that_fails_on_one_question_judges_the_others(tmp_path: Path) -> None:
    """A question without an answer is unknown; the score goes on."""
    with FakeEndpoint(FakeConfig(answers=_verdicts(), seed=2, error_share=0.5)) as endpoint:
        judge = f'[judge]\nendpoint = "{endpoint.base_url}"\nmodel = "j"\n'
        found = _judged(_run(tmp_path, f"retries = 0\n{judge}"))
    assert [True, None] == found


def test_what_another_process_bought_is_charged_once(tmp_path: Path) -> None:
    """Appended between two batches, or left in flight by a kill, it counts from the next on."""
    with FakeEndpoint() as endpoint:
        run = _run(tmp_path, "[budget]\nquestions = 6\n", teacher=endpoint.base_url)
        teacher = open_teacher(run)
        asked = [Question(messages=(Message("user", f"{n}?"),)) for n in range(6)]
        asyncio.run(teacher.answer(asked[:1]))
        other = open_teacher(Run.load(tmp_path / "RUN.toml"))
        asyncio.run(other.answer(asked[1:3]))
        run.folder.journal.mkdir(parents=True)
        slots = UnderWay(run.folder.journal)  # of a process that was killed
        slots.begin("ab" * 32, Ledger(BudgetTable()).reserve(5, 5), now=1.0)
        for n in (1, 2, 3, 4):
            asyncio.run(teacher.answer(asked[:n]))
        spent = asyncio.run(run.books.open(run.folder.teacher_journal)).ledger.spent
        assert (5, 4) == (spent.questions, endpoint.counts().n_billed)
        assert ["lost"] == [one.error for one in _recorded(run.folder.journal)]
        assert {} == left_behind(run.folder.journal)
        with pytest.raises(StillwatchError):
            asyncio.run(teacher.answer(asked))
        assert 5 == endpoint.counts().n_billed


def test_an_index_reads_on(tmp_path: Path) -> None:
    """A second reading gives what was appended since, and no line twice."""
    index = AnswerIndex(tmp_path)
    seen: list[list[str]] = []
    for n in range(4):
        key = f"{n + 1:02x}" * 32
        with Journal.open(tmp_path) as journal:
            journal.append_sync(
                Exchange(
                    exchange_id=str(n), account="", started_at=1.0, wire="openai.chat",
                    tags={"request_key": key, "outcome": "answered"},
                )
            )  # fmt: skip
        seen.append([one.exchange_id for one in index.reading()])
        assert "answered" == index.outcome(key)
        assert n + 1 == len(index)
    assert [["0"], ["1"], ["2"], ["3"]] == seen
