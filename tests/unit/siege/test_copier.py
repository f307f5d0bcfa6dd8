"""The campaign as an actor: loopback only, one queue, asked again elsewhere, answers kept."""

from dataclasses import replace

import numpy as np
import pytest

from stillwatch.errors import NotPermittedError
from stillwatch.model.protocol import Reply
from stillwatch.record.exchange import Answer
from stillwatch.siege.copier import Campaign, CampaignSizes, open_campaign
from stillwatch.siege.drive import Actor, Outcome, Planned, Reconsidering
from stillwatch.siege.settings import DAY_S, FIRST_DAY
from stillwatch.siege.skills import is_held_out

BASE_URL = "http://127.0.0.1:9"
SIZES = CampaignSizes(workers=12, skill_questions=120, prose_questions=80, days=6)
ANSWER = Outcome(200, Reply(answers=(Answer("MM"),), model_returned="house", output_tokens=3))


@pytest.fixture
def campaign() -> Campaign:
    """A small campaign."""
    return open_campaign(SIZES, np.random.default_rng(5), start=FIRST_DAY)


def _harvest(campaign: Campaign) -> list[Planned]:
    return [p for p in campaign.plan(BASE_URL) if p.kind == "harvest"]


@pytest.mark.parametrize(
    "base_url", ["https://example.com", "http://10.0.0.1", "http://127.0.0.1.example.com", ""]
)
def test_asks_this_machine_only(campaign: Campaign, base_url: str) -> None:
    """Any address but a loopback one is refused."""
    with pytest.raises(NotPermittedError):
        campaign.plan(base_url)


def test_is_an_actor(campaign: Campaign) -> None:
    """The driver can tell it of replies and ask it to reconsider."""
    assert isinstance(campaign, Actor)
    assert isinstance(campaign, Reconsidering)


def test_queue_is_worked_once(campaign: Campaign) -> None:
    """Every task of the queue is asked exactly once, and its last line is the question."""
    asked = _harvest(campaign)
    tasks = {task.key: task for task in campaign.queue}
    assert 200 == len(tasks)
    assert sorted(tasks) == sorted(p.item_key for p in asked)
    for planned in asked:
        assert tasks[planned.item_key].line == planned.messages[-1].content.rsplit("\n", 1)[-1]


def test_queue_leaves_the_exam_alone(campaign: Campaign) -> None:
    """No skill question of the queue is held out for scoring."""
    assert not [t for t in campaign.queue if t.item is not None and is_held_out(t.item)]


def test_keeps_answers_of_the_queue_only(campaign: Campaign) -> None:
    """Answers to harvest questions are recorded with what was asked; dilution is forgotten."""
    plan = campaign.plan(BASE_URL)
    for planned in plan:
        assert campaign.on_reply(planned, ANSWER) is None
    harvest = [p for p in plan if p.kind == "harvest"]
    assert [p.request_id for p in harvest] == [x.exchange_id for x in campaign.record]
    assert {"date", "roman", "prose"} == {x.tags["skill"] for x in campaign.record}
    assert {"MM"} == {x.answer for x in campaign.record}


def test_throttled_question_comes_again_elsewhere(campaign: Campaign) -> None:
    """After 429 another account asks the same task later; after the third try nobody does."""
    first = _harvest(campaign)[0]
    second = campaign.on_reply(first, Outcome(429, retry_after_s=60.0))
    assert second is not None
    assert first.item_key == second.item_key
    assert first.account != second.account
    assert first.request_id != second.request_id
    assert first.at < second.at <= first.at + DAY_S
    assert "harvest" == campaign.kinds[second.request_id]
    third = campaign.on_reply(second, Outcome(429))
    assert third is not None
    assert campaign.on_reply(third, Outcome(429)) is None


def test_blocked_account_is_retired(campaign: Campaign) -> None:
    """After 403 an account asks nothing more: its tasks move on, its dilution is dropped."""
    first = _harvest(campaign)[0]
    assert campaign.before_asking(first) == first
    campaign.on_reply(first, Outcome(403, may_retry=False))
    assert {first.account} == campaign.retired
    moved = campaign.before_asking(first)
    assert moved is not None
    assert moved.account not in campaign.retired
    assert campaign.before_asking(replace(first, kind="dilution")) is None


def test_web_without_accounts_falls_silent(campaign: Campaign) -> None:
    """When every account is retired nothing is asked any more."""
    for planned in _harvest(campaign):
        campaign.on_reply(planned, Outcome(403))
    campaign.retired.update(campaign.accounts)
    assert [] == [p for p in campaign.plan(BASE_URL) if campaign.before_asking(p) is not None]


def test_nothing_is_asked_after_the_end(campaign: Campaign) -> None:
    """A question that would come again after the last day is given up."""
    last = replace(_harvest(campaign)[-1], at=FIRST_DAY + 6 * DAY_S - 1.0)
    assert campaign.on_reply(last, Outcome(429)) is None


def test_hand_over_repeats(campaign: Campaign) -> None:
    """Who asks again, and when, depends on the question and not on chance."""
    again = open_campaign(SIZES, np.random.default_rng(5), start=FIRST_DAY)
    first = _harvest(campaign)[3]
    assert campaign.on_reply(first, Outcome(429)) == again.on_reply(first, Outcome(429))
