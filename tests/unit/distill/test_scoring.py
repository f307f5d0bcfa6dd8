"""Scores of teacher, student and untouched student on the same items."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from stillwatch.distill.checks import Row
from stillwatch.distill.curves.points import read_scored, write_point_lines
from stillwatch.distill.file_digests import folder_digest
from stillwatch.distill.items import Item, item_id_of, write_items
from stillwatch.distill.questions.table import Columns, FileTable
from stillwatch.distill.scores.contender import Contender
from stillwatch.distill.scores.judging import Judges, agreements
from stillwatch.distill.scores.scoring import (
    HeldOutItems,
    ScoreTable,
    StudentFacts,
    read_held_out,
    score_models,
)
from stillwatch.errors import BudgetReachedError, InvalidInputError, ModelAuthError, ModelError
from stillwatch.model.fake import FakeModel
from stillwatch.model.protocol import Question, Reply
from stillwatch.record.exchange import Answer, Message

GREEDY = ScoreTable(check="exact")


def _item(text: str, truth: str, *, capability: str = "sum", cluster: str = "") -> Item:
    messages = (Message(role="user", content=text),)
    return Item(
        item_id=item_id_of(messages),
        messages=messages,
        capability=capability,
        cluster=cluster,
        truth=truth,
    )


ITEMS = [
    _item(f"{n}+{n}?", str(2 * n), capability="sum" if n % 2 else "twice", cluster=f"c{n // 3}")
    for n in range(60)
]
TRUTHS = {item.question: item.truth or "" for item in ITEMS}


def _knows(share: float, *, wrong: str = "no idea", name: str = "fake") -> Contender:
    """A model that knows the first `share` of the items, and says `wrong` to the others."""
    known = list(TRUTHS)[: round(share * len(TRUTHS))]
    said = {asked: TRUTHS[asked] if asked in known else wrong for asked in TRUTHS}
    return Contender(FakeModel.scripted(said, name=name), identity=f"{name} {share} {len(wrong)}")


async def test_all_models_on_the_same_items(tmp_path):
    """Shares, the distance to the teacher, what is retained and the gap closed fit together."""
    models = {
        "teacher": _knows(0.9, wrong="slip"),
        "untouched": _knows(0.1),
        "s0": _knows(0.5, wrong="slip"),
    }
    report = await score_models(ITEMS, models, table=GREEDY, cache_folder=tmp_path)
    found = report.inside.overall.models
    assert (0.9, 0.5, 0.1) == tuple(found[n].share.value for n in ("teacher", "s0", "untouched"))
    student = found["s0"]
    assert pytest.approx(-0.4) == student.behind_teacher.value
    assert pytest.approx(0.4) == student.above_untouched.value
    assert pytest.approx(5 / 9) == student.retained.value
    assert pytest.approx(0.5) == student.gap_closed.value
    assert student.gap_closed.low < 0.5 < student.gap_closed.high
    assert ["twice", "sum", "all", "mean"] == [c.capability for c in report.inside.comparisons]
    assert (60, 20) == (report.inside.overall.n_items, report.inside.overall.n_clusters)


async def test_mistakes_tell_a_copy_from_a_peer(tmp_path):
    """Of two students with one score, the copy repeats the teacher's mistakes."""
    models = {
        "teacher": _knows(0.5, wrong="slip"),
        "untouched": _knows(0.0, wrong="nothing"),
        "copy": _knows(0.5, wrong=" slip"),
        "peer": _knows(0.5, wrong="own slip"),
    }
    report = await score_models(ITEMS, models, table=GREEDY, cache_folder=tmp_path)
    copy, peer = (report.inside.overall.models[name] for name in ("copy", "peer"))
    assert copy.share == peer.share
    assert (30, 1.0, 0.0) == (
        copy.on_mistakes.n_answers,
        copy.on_mistakes.share.value,
        peer.on_mistakes.share.value,
    )
    assert copy.on_mistakes.above_untouched.low > 0.5
    assert (1.0, 0.5) == (copy.agreement.value, peer.agreement.value)


async def test_no_gap_without_a_gap(tmp_path):
    """Where the teacher is not clearly ahead of the untouched student there is no quotient."""
    models = {"teacher": _knows(0.52), "untouched": _knows(0.5), "s0": _knows(0.51)}
    report = await score_models(ITEMS, models, table=GREEDY, cache_folder=tmp_path)
    student = report.inside.overall.models["s0"]
    assert student.gap_closed is None
    assert "not clearly ahead" in student.gap_refused
    assert student.retained is not None


async def test_answers_are_asked_once(tmp_path):
    """A second score asks only the new model; another decoding asks everything anew."""
    models = {"teacher": _knows(0.9), "untouched": _knows(0.1)}
    first = await score_models(ITEMS, models, table=GREEDY, cache_folder=tmp_path)
    again = {"teacher": _knows(0.9), "untouched": _knows(0.1), "s0": _knows(0.5)}
    second = await score_models(ITEMS, again, table=GREEDY, cache_folder=tmp_path)
    assert [0, 0, 60] == [len(model.model.questions) for model in again.values()]
    assert (
        first.inside.overall.models["teacher"].share
        == second.inside.overall.models["teacher"].share
    )
    warm = msgspec.structs.replace(GREEDY, parameters={"temperature": 0.5}, samples=2)
    await score_models(ITEMS, again, table=warm, cache_folder=tmp_path)
    assert [120, 120, 180] == [len(model.model.questions) for model in again.values()]
    asked = again["teacher"].model.questions
    assert 120 == len({question.parameters["seed"] for question in asked})


async def test_a_model_without_identity_is_asked_anew(tmp_path):
    """Nothing says that weights under one name stayed the same, so nothing old is served."""
    nameless = Contender(_knows(0.9).model)
    await score_models(ITEMS, {"teacher": nameless}, table=GREEDY, cache_folder=tmp_path)
    await score_models(ITEMS, {"teacher": nameless}, table=GREEDY, cache_folder=tmp_path)
    assert 120 == len(nameless.model.questions)


class _Flaky:
    """Fails for good on some questions."""

    name = "flaky"

    def __init__(self, failing: set[str], error: type[Exception] = ModelError) -> None:
        self.failing, self.error, self.n_asked = failing, error, 0

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        self.n_asked += len(questions)
        replies = []
        for question in questions:
            text = question.messages[-1].content
            if text in self.failing:
                message = "flaky: no"
                raise self.error(message)
            replies.append(Reply(answers=(Answer(text=TRUTHS[text]),)))
        return replies


async def test_an_unanswered_item_is_left_out_for_all(tmp_path):
    """A failure is no wrong answer: the item counts for nobody, and the report says so."""
    flaky = Contender(_Flaky({"3+3?"}), identity="flaky", batch=8)
    models = {"teacher": flaky, "s0": _knows(0.5)}
    report = await score_models(ITEMS, models, table=GREEDY, cache_folder=tmp_path)
    assert (59, 1) == (len(report.inside.item_ids), report.inside.n_left_out)
    assert 1.0 == report.inside.overall.models["teacher"].share.value
    assert any("left out" in note for note in report.notes())


async def test_too_many_failures_stop_and_resume(tmp_path):
    """Beyond the allowed share nothing is scored, and what was answered is not asked again."""
    broken = _Flaky({f"{n}+{n}?" for n in range(30)})
    contender = Contender(broken, identity="same", batch=1, calls=4)
    with pytest.raises(ModelError, match="30 of 60"):
        await score_models(ITEMS, {"teacher": contender}, table=GREEDY, cache_folder=tmp_path)
    healed = _Flaky(set())
    contender = Contender(healed, identity="same", batch=1, calls=4)
    report = await score_models(ITEMS, {"teacher": contender}, table=GREEDY, cache_folder=tmp_path)
    assert (30, 60) == (healed.n_asked, len(report.inside.item_ids))


@pytest.mark.parametrize("error", [ModelAuthError, BudgetReachedError])
async def test_a_refused_key_or_a_spent_budget_ends_it(tmp_path, error):
    """What no other question could change is told at once, whatever the failures allowed."""
    refused = Contender(_Flaky({"0+0?"}, error), identity="x", batch=1, calls=4)
    with pytest.raises(error):
        await score_models(ITEMS, {"teacher": refused}, table=GREEDY, cache_folder=tmp_path)


async def test_outside_is_kept_apart(tmp_path):
    """What was learnt and does not carry over is seen, and said."""
    sets = HeldOutItems(ITEMS[:30], ITEMS[30:])
    models = {"teacher": _knows(1.0), "untouched": _knows(0.0), "s0": _knows(0.5)}
    report = await score_models(sets, models, table=GREEDY, cache_folder=tmp_path)
    inside, outside = (part.overall.models["s0"].share.value for part in report.parts)
    assert (1.0, 0.0) == (inside, outside)
    assert report.loss_outside("s0").high < 0
    assert any("gained less outside" in note for note in report.notes())
    alone = await score_models(ITEMS[:30], models, table=GREEDY, cache_folder=tmp_path)
    assert any("is not known" in note for note in alone.notes())


async def test_points_for_a_curve(tmp_path):
    """The lines hold every model on every capability and side, and read back."""
    sets = HeldOutItems(ITEMS[:40], ITEMS[40:])
    models = {"s0": _knows(0.5), "teacher": _knows(0.9), "untouched": _knows(0.1)}
    report = await score_models(sets, models, table=GREEDY, cache_folder=tmp_path / "cache")
    facts = {"s0": StudentFacts(n_questions=100, seed=3, n_kept=98, own={"sum": 50}, steps=7)}
    path = tmp_path / "points.jsonl"
    write_point_lines(path, report.point_lines(facts))
    scored = read_scored(path)
    sides = [(h.capability, h.out_of_distribution) for h in scored.held_out]
    assert {(name, side) for name in ("sum", "twice") for side in (False, True)} == set(sides)
    students = dict(zip(sides, scored.students, strict=True))
    point = next(p for p in students["sum", False] if p.n_questions)
    assert (100, 3, 98, 50, 7) == (
        point.n_questions,
        point.seed,
        point.spent.n_kept,
        point.spent.n_own,
        point.training.steps,
    )
    with pytest.raises(InvalidInputError, match="none for s0"):
        report.point_lines({})


async def test_samples_are_shares(tmp_path):
    """With several samples an item is worth the share of them that is right."""
    turns = iter(range(10_000))
    coin = FakeModel(lambda q: TRUTHS[q.messages[-1].content] if next(turns) % 2 else "no")
    table = ScoreTable(check="exact", samples=2, parameters={"temperature": 1.0})
    models = {"teacher": Contender(coin, identity="coin")}
    report = await score_models(ITEMS, models, table=table, cache_folder=tmp_path)
    figures = report.inside.overall.models["teacher"]
    assert (0.5, 1.0) == (figures.share.value, figures.best_of)
    assert {0.5} == {share for line in report.point_lines({}) for share in line.correct}


@pytest.mark.parametrize(
    ("check", "teacher", "student", "agrees"),
    [
        ("numeric", "First 3, then 4: the answer is 7.5 km", "7500 m", True),
        ("numeric", "So 3 + 4 = 7", "2 + 4 = 6", False),
        ("numeric", "I cannot tell.", "i cannot tell", True),
        ("numeric", "I cannot tell.", "7", False),
        ("choice", "A is tempting, but the answer is (B).", "B", True),
        ("choice", "The answer is (B).", "C", False),
        ("regex", "Use `[0-9]+` here.", r"`\d+`", True),
        ("normalised", "The Seine.", "the seine", True),
        ("exact", "The Seine.", "the seine", False),
        ("code", "```python\nx = 1\n```", "```python\nx = 2\n```", False),
    ],
)
async def test_agreement_reads_answers_as_the_check_does(tmp_path, check, teacher, student, agrees):
    """Two answers agree when they settle on the same, though the words differ."""
    judges = Judges(ScoreTable(check=check), {}, tmp_path / "judgements.jsonl")
    row = Row(None, student, ITEMS[0])
    assert [agrees] == agreements([row], [teacher], judges).tolist()


async def test_what_is_unknown_or_cut_is_said(tmp_path):
    """An answer that cannot be judged counts as not right, and is counted."""
    items = [_item(f"{n}?", "") for n in range(8)]
    items = [msgspec.structs.replace(item, truth=None) for item in items]
    reply = Reply(answers=(Answer(text="4", finish_reason="length"),))
    models = {"teacher": Contender(FakeModel(lambda q: reply), identity="t")}
    report = await score_models(items, models, table=GREEDY, cache_folder=tmp_path)
    figures = report.inside.overall.models["teacher"]
    assert (8, 8, 0.0) == (figures.n_unknown, figures.n_cut, figures.share.value)
    assert 2 == sum("8 of 8 answers" in note for note in report.notes())


async def test_the_report_is_plain_data(tmp_path):
    """The report writes as JSON and holds no answer."""
    models = {"teacher": _knows(0.9, wrong="SECRET"), "untouched": _knows(0.1), "s0": _knows(0.5)}
    table = ScoreTable(check="exact", discriminator=True)
    report = await score_models(ITEMS, models, table=table, cache_folder=tmp_path / "cache")
    report.write(tmp_path / "scores.json")
    text = (tmp_path / "scores.json").read_text()
    read = msgspec.json.decode(text)
    assert "SECRET" not in text
    assert {"untouched", "s0"} == set(read["tells"])
    assert ["held out"] == [part["items"] for part in read["parts"]]


async def test_a_system_turn_reaches_every_model(tmp_path):
    """The table's system turn is the same for all; a contender's own stands where none is."""
    plain, taught = FakeModel.echo(), FakeModel.echo()
    models = {
        "teacher": Contender(taught, identity="a", system="own"),
        "s0": Contender(plain, identity="b"),
    }
    await score_models(ITEMS[:1], models, table=GREEDY, cache_folder=tmp_path)
    assert ["own", "4+4?"][0] == taught.questions[0].messages[0].content
    assert "user" == plain.questions[0].messages[0].role
    shared = msgspec.structs.replace(GREEDY, system="shared")
    await score_models(ITEMS[:1], models, table=shared, cache_folder=tmp_path)
    assert ["shared", "shared"] == [m.questions[-1].messages[0].content for m in (taught, plain)]


def test_files_of_items(tmp_path):
    """The table names files beside the run's; what is missing is named."""
    write_items(tmp_path / "a.jsonl", ITEMS[:2])
    write_items(tmp_path / "b.jsonl", ITEMS[2:3])
    sets = read_held_out(ScoreTable(items="a.jsonl", ood="b.jsonl"), tmp_path)
    assert (2, 1) == (len(sets.inside), len(sets.outside))
    with pytest.raises(InvalidInputError, match=r"c\.jsonl"):
        read_held_out(ScoreTable(items="a.jsonl", ood="c.jsonl"), tmp_path)
    (tmp_path / "d.csv").write_text("question,said\n1+1?,2\n")
    with pytest.raises(InvalidInputError, match="right answers"):
        read_held_out(ScoreTable(items="d.csv"), tmp_path)
    named = FileTable(path="d.csv", columns=Columns(truth="said"), check="numeric")
    item = read_held_out(ScoreTable(items=named), tmp_path).inside[0]
    assert ("1+1?", "2", "numeric") == (item.question, item.truth, item.check)
    with pytest.raises(InvalidInputError, match="items"):
        read_held_out(ScoreTable(), tmp_path)


def test_a_folder_is_known_by_its_bytes(tmp_path):
    """A changed byte or name is another model; a hidden file and a date are not."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    first = folder_digest(folder)
    (folder / ".lock").write_bytes(b"x")
    assert first == folder_digest(folder)
    (folder / "a").write_bytes(b"2")
    assert first != folder_digest(folder)


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 2},
        {"samples": 0},
        {"level": 1.0},
        {"max_failed": 1.0},
        {"parameters": {"temperature": 1, "seed": 3}},
    ],
)
def test_table_rules(wrong):
    """A table that cannot be meant is refused with the field's name."""
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        ScoreTable(**wrong)


@pytest.mark.parametrize(
    ("items", "models"), [([], {"a": 1}), (ITEMS, {}), (HeldOutItems(ITEMS, ITEMS[:1]), {"a": 1})]
)
def test_what_is_scored_is_checked(tmp_path, items, models):
    """No items, no models and an item in both sets are refused."""
    models = {name: _knows(0.5) for name in models}
    with pytest.raises(InvalidInputError):
        asyncio.run(score_models(items, models, table=GREEDY, cache_folder=tmp_path))


async def test_costly_judgements_are_kept(tmp_path):
    """What a known judge said is not asked again; another judge is asked, and so is a torn line."""
    check = _Counting("judge of 1 May")
    models = {"teacher": _knows(0.5)}
    table = ScoreTable(check="judge")
    for _ in range(2):
        await score_models(
            ITEMS, models, table=table, cache_folder=tmp_path, checks={"judge": check}
        )
    assert 60 == check.n_judged
    path = tmp_path / "judgements.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    await score_models(ITEMS, models, table=table, cache_folder=tmp_path, checks={"judge": check})
    assert 61 == check.n_judged
    assert 60 == len(path.read_bytes().splitlines())
    for check in (_Counting("judge of 2 May"), _Counting("")):
        given = {"judge": check}
        await score_models(ITEMS, models, table=table, cache_folder=tmp_path, checks=given)
        assert 60 == check.n_judged
    assert 120 == len(path.read_bytes().splitlines())


class _Counting:
    """A check of the costly kind that counts what it judges."""

    kind = "judge"

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.n_judged = 0

    def __call__(self, truth, answer, item):
        raise NotImplementedError

    async def judge(self, truth, answer, item):
        return (await self.judge_many([(truth, answer, item)]))[0]

    async def judge_many(self, rows):
        from stillwatch.distill.checks import Judgement

        self.n_judged += len(rows)
        return [Judgement(truth == answer, "") for truth, answer, _ in rows]


async def test_an_item_counts_once(tmp_path):
    """A question that stands there twice counts once and is told; two truths of one are refused."""
    models = {"teacher": _knows(0.5)}
    report = await score_models([*ITEMS, ITEMS[0]], models, table=GREEDY, cache_folder=tmp_path)
    assert 60 == len(report.inside.item_ids)
    assert any("Repeated items: 1" in note for note in report.notes())
    other = msgspec.structs.replace(ITEMS[0], truth="7")
    with pytest.raises(InvalidInputError, match="truth"):
        await score_models([*ITEMS, other], models, table=GREEDY, cache_folder=tmp_path)


async def test_macro_weighs_capabilities_alike(tmp_path):
    """A large skill does not drown a small one in the mean."""
    items = [_item(f"a{n}", "x", capability="large") for n in range(90)]
    items += [_item(f"b{n}", "x", capability="small") for n in range(10)]
    model = FakeModel(lambda q: "x" if q.messages[0].content.startswith("a") else "y")
    models = {"teacher": Contender(model, identity="t")}
    report = await score_models(items, models, table=GREEDY, cache_folder=tmp_path)
    shares = {c.capability: c.models["teacher"].share.value for c in report.inside.comparisons}
    expected = {"large": 1.0, "small": 0.0, "all": 0.9, "mean": 0.5}
    assert expected == shares
