"""Campaigns are named, honest groups are not."""

import csv
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.detect import (
    DetectConfig,
    Findings,
    detect,
    find_campaigns,
    fold,
    merge,
    no_profiles,
    write_findings,
)
from stillwatch.detect.confirmation.confirm import Judged, reject
from stillwatch.errors import EnvironmentUnfitError, InvalidInputError
from stillwatch.record.exchange import Exchange, Message, to_batch


@pytest.fixture(scope="module")
def findings(folded) -> Findings:
    """What is found in the small world."""
    return find_campaigns(*folded)


def test_the_web_is_named(world, findings) -> None:
    """The web comes out as one campaign, with its members and nobody else."""
    assert 1 == len(findings.campaigns)
    found = set(findings.campaigns[0].accounts)
    assert len(found & world.web) >= 0.95 * len(world.web)
    assert len(found & world.web) >= 0.98 * len(found)


def test_its_questions_are_listed(world, findings) -> None:
    """The exchanges listed are the harvest, not the dilution."""
    listed = set(findings.campaigns[0].exchange_ids)
    assert len(listed & world.harvest_ids) >= 0.95 * len(listed)
    assert len(listed & world.harvest_ids) >= 0.9 * len(world.harvest_ids)


@pytest.mark.parametrize("with_reference", [True, False])
def test_honest_groups_are_not_named(quiet_world, with_reference: bool) -> None:
    """A class, a company, an agent's users, a template's users, a craze, a suite: no campaign."""
    reference = [to_batch(quiet_world.reference)] if with_reference else None
    findings = detect([to_batch(quiet_world.live)], reference=reference)
    assert () == findings.campaigns
    assert all(row.score <= 0.5 for row in findings.accounts)
    assert len(findings.candidates) > 0


def test_without_a_reference_the_log_stands_in(simple_world) -> None:
    """The web is the first candidate; a bulk too small for a p-value names nobody."""
    findings = detect([to_batch(simple_world.live)])
    assert "the log itself" == findings.reference
    assert findings.candidates[0].accounts >= len(simple_world.web)
    assert findings.n_anchors < 100
    assert () == findings.campaigns


def test_p_value_and_e_value_agree(findings) -> None:
    """The e-value is the p-value's, and both say surprise."""
    campaign = findings.campaigns[0]
    assert 0 < campaign.p_value <= findings.fdr
    assert campaign.e_value > 1.0


def test_evidence_is_complete(findings) -> None:
    """A campaign says what is shared, why it is no group of people, when, how much, what else."""
    kinds = [e.kind for e in findings.campaigns[0].evidence]
    expected = ["shared wording", "interchangeable members", "nothing asked twice"]
    assert expected == kinds[:3]
    assert {"timeline", "value taken", "innocent explanation"} <= set(kinds)
    wording = findings.campaigns[0].evidence[0]
    assert wording.examples
    assert wording.figures["accounts"] >= 95.0


def test_order_of_the_log_does_not_show(world, folded, findings) -> None:
    """Folding the log backwards and in pieces gives the same findings."""
    rows = world.live[::-1]
    batches = [to_batch(rows[i : i + 999]) for i in range(0, len(rows), 999)]
    assert findings == find_campaigns(fold(batches), folded[1])


def test_merged_days_find_what_one_fold_finds(world, folded, findings) -> None:
    """A learner that merges day by day loses nothing."""
    profiles = no_profiles()
    for day in range(0, len(world.live), 1500):
        profiles = merge(profiles, fold([to_batch(world.live[day : day + 1500])]))
    assert findings == find_campaigns(profiles, folded[1])


def test_account_names_carry_no_meaning(world, folded, findings) -> None:
    """Renaming every account renames the findings and changes nothing else."""
    names = {a: f"r{a[::-1]}" for a in folded[0].accounts.to_pylist()}
    table = pa.Table.from_batches([to_batch(world.live)])
    column = pa.array([names[a] for a in table["account"].to_pylist()])
    renamed = table.set_column(table.schema.get_field_index("account"), "account", column)
    found = detect(renamed.to_batches(), reference=folded[1]).campaigns
    before = {names[a] for a in findings.campaigns[0].accounts}
    assert len(before & set(found[0].accounts)) >= 0.98 * len(before)


def test_one_organisation_is_one_party(world) -> None:
    """Accounts that belong to one organisation openly are not a web of strangers."""
    rows = []
    for exchange in world.live:
        org = "one lab" if exchange.account in world.web else exchange.org
        fields = {name: getattr(exchange, name) for name in exchange.__struct_fields__}
        rows.append(Exchange(**{**fields, "org": org}))
    findings = detect([to_batch(rows)], reference=[to_batch(world.reference)])
    named = {a for c in findings.campaigns for a in c.accounts}
    assert set() == named & world.web


@pytest.mark.parametrize("n", [0, 1, 3])
def test_tiny_logs(n: int) -> None:
    """An empty log and logs of a few accounts give findings without campaigns."""
    rows = [
        Exchange(
            exchange_id=str(i),
            account=f"a{i}",
            started_at=float(i),
            messages=(Message("user", "hello there"),),
        )
        for i in range(n)
    ]
    findings = detect([to_batch(rows)] if rows else [])
    assert () == findings.campaigns
    assert n == len(findings.accounts)


def test_scores_rank_members_first(world, findings) -> None:
    """Members stand above one half, everybody else below; the order is by score."""
    scores = [row.score for row in findings.accounts]
    assert sorted(scores, reverse=True) == scores
    members = set(findings.campaigns[0].accounts)
    assert members == {row.account for row in findings.accounts if row.score > 0.5}


def test_files(findings, tmp_path) -> None:
    """Both files are written whole, with the account ids as the log gave them."""
    campaigns_path, accounts_path = write_findings(findings, tmp_path / "out")
    document = json.loads(campaigns_path.read_text())
    assert list(findings.campaigns[0].accounts) == document["campaigns"][0]["accounts"]
    with accounts_path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row.account for row in findings.accounts] == [row["account"] for row in rows]
    assert ["accounts.csv", "campaigns.json"] == sorted(
        p.name for p in (tmp_path / "out").iterdir()
    )


def test_unwritable_folder(findings, tmp_path) -> None:
    """A path that cannot be a folder is refused in one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnfitError, match="cannot be written"):
        write_findings(findings, tmp_path / "file" / "out")


@pytest.mark.parametrize("wrong", [{"fdr": 0.0}, {"fdr": 1.0}, {"min_accounts": 1}])
def test_config_is_checked(wrong: dict[str, float]) -> None:
    """Values that make no sense are refused by name."""
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        DetectConfig(**wrong)


@given(st.lists(st.tuples(st.floats(0.0001, 1.0), st.integers(1, 500)), max_size=6))
def test_no_group_is_named_above_the_rate(pairs: list[tuple[float, int]]) -> None:
    """Whatever the stakes, a named group has a p-value of at most the stated rate."""
    judged = []
    for p_value, stake in pairs:
        block = type("B", (), {"rows": np.zeros(stake)})()
        judged.append(Judged(block, tested=object(), revisited=0.0, p_value=p_value, reason=""))
    named = reject(judged, 0.05)
    assert all(one.p_value <= 0.05 for one, falls in zip(judged, named, strict=True) if falls)
    assert math.isfinite(named.sum())
