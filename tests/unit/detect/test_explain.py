"""Any account can be asked about, and the answer says why."""

import msgspec
import pytest

from stillwatch.detect.evidence.explain import Case, Explanation
from stillwatch.errors import InvalidInputError


@pytest.fixture(scope="module")
def case(folded, found) -> Case:
    """The small world and its findings."""
    live, reference = folded
    return Case(live, found, reference=reference)


def test_a_member_is_told_its_campaign(world, case) -> None:
    """A member's explanation names the campaign, its wording, and members among its neighbours."""
    campaign = case.findings.campaigns[0]
    told = case.explain(campaign.accounts[0])
    assert ("named", campaign.campaign_id) == (told.standing, told.campaign_id)
    assert told.score > 0.5
    assert campaign.campaign_id in told.reasons[0]
    assert any(habit.others >= 10 for habit in told.habits)
    assert sum(near.campaign_id == campaign.campaign_id for near in told.neighbours) >= 4


def test_an_honest_account_is_told_why_not(world, case) -> None:
    """Whoever is not named gets a reason, and a score that agrees."""
    for group in ("persons", "class", "template", "viral"):
        account = sorted(world.groups[group] & set(case.profiles.accounts.to_pylist()))[0]
        told = case.explain(account)
        assert "named" != told.standing
        assert "" == told.campaign_id
        assert told.reasons
        assert told.score <= 0.5
        assert told.vouched
        assert told.exchanges >= told.kept > 0


def test_traits_count_others(world, case) -> None:
    """A company's account shares its system prompt with colleagues."""
    account = sorted(world.groups["company"])[0]
    told = case.explain(account)
    prompt = next(t for t in told.traits if t.kind == "system prompt")
    assert prompt.others >= 20
    assert 0.0 < prompt.share <= 1.0


def test_an_unknown_account_is_refused_with_a_hint(case) -> None:
    """The hint lists accounts that look like it."""
    known = case.profiles.accounts[0].as_py()
    with pytest.raises(InvalidInputError, match="--explain") as caught:
        case.explain(known[:-1] + "?")
    assert known[:4] in (caught.value.hint or "")


def test_explanations_survive_json(case) -> None:
    """What --json prints can be read back."""
    told = case.explain(case.profiles.accounts[0].as_py())
    assert told == msgspec.json.decode(msgspec.json.encode(told), type=Explanation)
