"""Judging: named when found often enough, let go when missed often enough, and once anew."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.guard.conftest import ScriptedUpstream

from stillwatch.detect import Campaign, Findings
from stillwatch.errors import InvalidInputError
from stillwatch.guard.config import GuardConfig, LearnerConfig
from stillwatch.guard.learning.judging import Judge
from stillwatch.guard.recording.audit import read_audit
from stillwatch.guard.wall.ladder import Hysteresis
from stillwatch.guard.wall.orders import Order
from stillwatch.guard.wall.verdict import Board, VerdictTable

Make = Callable[..., GuardConfig]
TTL_S = 1000.0
WEB = tuple(f"w{n}" for n in range(6))


def _findings(*groups: tuple[str, ...]) -> Findings:
    campaigns = tuple(
        Campaign(
            campaign_id=f"web-{group[0]}", accounts=group, p_value=1e-6, e_value=1e6, exchanges=9,
            output_tokens=9, first_seen=0.0, last_seen=1.0, evidence=(),
        )
        for group in groups
    )  # fmt: skip
    return Findings(
        campaigns=campaigns, accounts=(), candidates=(), fdr=0.01, n_accounts=9, n_exchanges=99,
        n_anchors=9, reference="given",
    )  # fmt: skip


class Court:
    """A judge over a table of its own, one learning a call."""

    def __init__(self, config: GuardConfig) -> None:
        config.state.mkdir(exist_ok=True)
        self.config = config
        self.table = VerdictTable(config.verdict_path)

    def learn(self, at: float, *groups: tuple[str, ...]) -> list[str]:
        """Judge findings of groups; gives the names that hold."""
        # A judge of its own each time: what is known lies in the table, not in the process.
        learned = Judge(self.config, self.table).judge(_findings(*groups), at=at, n_folded=1)
        return [campaign.campaign_id for campaign in learned.campaigns]

    def board(self) -> Board:
        """What a gateway would decide from."""
        return self.table.load()

    def kinds(self) -> list[str]:
        """The audit log's kinds."""
        return [event.kind for event in read_audit(self.config.audit_path)]


@pytest.fixture
def court(make_config: Make, upstream: ScriptedUpstream) -> Callable[[Hysteresis], Court]:
    """Make courts."""
    learner = LearnerConfig(enabled=False, verdict_ttl_s=TTL_S)
    base = make_config(learner=learner)
    return lambda rule: Court(replace(base, hysteresis=rule))


MakeCourt = Callable[[Hysteresis], Court]


def test_found_once(court: MakeCourt) -> None:
    """Without hysteresis one finding names, and a miss leaves that to the verdict's end."""
    found = court(Hysteresis())
    assert ["web-w0"] == found.learn(1.0, WEB)
    assert [] == found.learn(2.0)
    assert set(WEB) == set(found.board().verdicts)
    assert "" == found.table.recalled("sightings")


def test_found_twice_of_three(court: MakeCourt) -> None:
    """Two findings among the last three name a campaign; one alone is only noted."""
    found = court(Hysteresis(found=2, of=3))
    assert [] == found.learn(1.0, WEB)
    assert {} == dict(found.board().verdicts)
    assert [[], [], [], ["web-w0"]] == [
        found.learn(2.0), found.learn(3.0), found.learn(4.0, WEB), found.learn(5.0, WEB)
    ]  # fmt: skip
    (campaign,) = found.board().campaigns().values()
    assert 5.0 == campaign.since
    assert ["sighted", "sighted"] == [kind for kind in found.kinds() if kind == "sighted"]


def test_a_candidate_keeps_its_name(court: MakeCourt) -> None:
    """What is not named yet is known again, also when half of its accounts have changed."""
    found = court(Hysteresis(found=2, of=2))
    found.learn(1.0, WEB)
    assert ["web-w0"] == found.learn(2.0, ("w3", "w4", "w5", "x1", "x2"))


def test_missed_often_enough(court: MakeCourt) -> None:
    """Misses in a row end all verdicts of a campaign; single ones do not; found again it is new."""
    found = court(Hysteresis(found=1, of=1, missed=2))
    found.learn(1.0, WEB)
    found.table.order(Order("web-w0", "approve", "block"))
    found.learn(2.0)
    found.learn(3.0, WEB)
    found.learn(4.0)
    assert set(WEB) == set(found.board().verdicts)
    found.learn(5.0)
    assert {} == dict(found.board().verdicts)
    assert "left" in found.kinds()
    found.learn(6.0, WEB)
    (campaign,) = found.board().campaigns().values()
    # Its dwell begins again, and what was approved then is not approved now.
    assert (6.0, {}) == (campaign.since, dict(found.board().orders))


def test_switched_on_later(court: MakeCourt) -> None:
    """A campaign that was named before hysteresis was switched on stays named."""
    court(Hysteresis()).learn(1.0, WEB)
    later = court(Hysteresis(found=3, of=3, missed=2))
    assert ["web-w0"] == later.learn(2.0, WEB)
    later.learn(3.0)
    assert set(WEB) == set(later.board().verdicts)
    later.learn(4.0)
    assert {} == dict(later.board().verdicts)


def test_lapsed_and_found_again(court: MakeCourt) -> None:
    """A campaign whose verdicts have all lapsed begins anew: its dwell counts from now."""
    found = court(Hysteresis())
    found.learn(1.0, WEB)
    found.learn(1.0 + TTL_S / 2, WEB[:3])
    assert 1.0 == next(iter(found.board().campaigns().values())).since
    found.learn(5000.0, WEB)
    (campaign,) = found.board().campaigns().values()
    assert ("web-w0", 5000.0) == (campaign.campaign_id, campaign.since)
    assert {5000.0} == {verdict.named_at for verdict in found.board().verdicts.values()}


def test_joins_later(court: MakeCourt) -> None:
    """An account that is found to belong to a known campaign shares its age at once."""
    found = court(Hysteresis(found=2, of=2))
    for at in (1.0, 2.0):
        found.learn(at, WEB)
    found.learn(3.0, (*WEB, "late"))
    verdict = found.board().verdicts["late"]
    assert ("web-w0", 2.0, 3.0) == (
        verdict.campaign.campaign_id, verdict.campaign.since, verdict.named_at
    )  # fmt: skip


def test_false_positive(court: MakeCourt) -> None:
    """A campaign that was none is let go, not named again, and remembered as honest."""
    found = court(Hysteresis())
    found.learn(1.0, WEB)
    order = Order("web-w0", "false_positive", until=100.0, at=2.0, by="eve", why="a class")
    found.table.false_positive(order)
    assert {} == dict(found.board().verdicts)
    assert frozenset(WEB) == found.table.false_positives()
    assert (order,) == found.board().orders["web-w0"]
    assert [] == found.learn(3.0, WEB)
    assert ["web-x"] == found.learn(4.0, (*WEB, "x")[::-1])
    found.table.not_false_positive("web-w0")
    assert frozenset() == found.table.false_positives()
    assert ["web-w0"] == found.learn(5.0, WEB)


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"found": 0}, "found"), ({"found": 3, "of": 2}, "found"), ({"of": 0}, "of"),
     ({"missed": -1}, "missed")],
)  # fmt: skip
def test_bad_hysteresis(fields: dict[str, int], word: str) -> None:
    """Figures that make no sense are refused by name."""
    with pytest.raises(InvalidInputError, match=word):
        Hysteresis(**fields)
