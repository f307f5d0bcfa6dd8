"""Scenarios: what is promised of every log, and of each scenario."""

import collections

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.record.exchange import ARROW_SCHEMA, from_batch
from stillwatch.siege.traffic import Scenario, Traffic, build_traffic
from stillwatch.siege.traffic.cost import evasion_cost
from stillwatch.siege.traffic.homemade import home_made
from stillwatch.siege.traffic.lookalikes import ORDINARY
from stillwatch.siege.traffic.manners import TONGUES
from stillwatch.siege.traffic.rows import NEW_MODEL
from stillwatch.siege.traffic.scenarios import LIVE_FROM, NAMES

DAY = 86_400.0
POOLS = home_made()


def build(name: str = "S3", **changes) -> Traffic:
    """Build a small scenario."""
    small = {"evasion": "E2", "n_honest": 60, "n_campaign": 12, "per_account": 12.0, "share": 0.2}
    return build_traffic(Scenario(name, **(small | changes)), POOLS)


def table(batches) -> pa.Table:
    """Read all batches."""
    return pa.Table.from_batches(list(batches), ARROW_SCHEMA)


@pytest.mark.parametrize("name", NAMES)
def test_log_and_truth_fit(name: str) -> None:
    """Every scenario gives a log in the store's schema, in order of time, that its truth fits."""
    traffic = build(name)
    live = table(traffic.batches())
    at = live["started_at"].to_numpy()
    assert len(traffic) == live.num_rows
    assert live["exchange_id"].to_pylist() == traffic.truth.exchange_ids.tolist()
    assert len(set(traffic.truth.exchange_ids)) == live.num_rows
    assert bool((np.diff(at) >= 0).all())
    assert LIVE_FROM <= at[0] < at[-1] < LIVE_FROM + 14 * DAY
    members = traffic.truth.campaign_members()
    asked = {a for a, c in zip(live["account"].to_pylist(), traffic.truth.campaign, strict=True)
             if c >= 0}  # fmt: skip
    assert asked <= members
    assert set(live["account"].to_pylist()) <= set(traffic.accounts_table.rows)
    assert bool(((traffic.truth.kind > 0) == (traffic.truth.campaign >= 0)).all())


def test_repeats_from_the_seed() -> None:
    """Two builds, and two readings of one build, give equal logs; another seed gives another."""
    first, again, other = build(), build(), build(seed=1)
    assert table(first.batches()).equals(table(first.batches()))
    assert table(first.batches()).equals(table(again.batches()))
    assert table(first.history()).equals(table(again.history()))
    assert not table(first.batches()).equals(table(other.batches()))


def test_rows_are_exchanges() -> None:
    """A row reads back as an exchange with a question, parameters and no answer."""
    exchange = from_batch(next(build().batches()))[0]
    assert exchange.question
    assert () == exchange.answers
    assert "openai.chat" == exchange.wire
    assert exchange.started_at < exchange.ended_at


def test_history_is_honest_and_before() -> None:
    """The days before hold honest accounts only, unless a tainted reference is asked for."""
    traffic = build()
    past = table(traffic.history())
    members = traffic.truth.campaign_members()
    assert past["started_at"].to_numpy().max() < LIVE_FROM
    assert set() == set(past["account"].to_pylist()) & members
    tainted = build(tainted=0.1)
    accounts = table(tainted.history())["account"].to_pylist()
    found = np.mean([a in tainted.truth.campaign_members() for a in accounts])
    assert 0.07 < found < 0.13


def test_truth_does_not_travel() -> None:
    """No column and no row of the accounts table names a role or a group."""
    traffic = build("S8", n_campaign=12)
    told = {*traffic.truth.groups.tolist(), *ORDINARY, "campaign", "harvest"} - {""}
    live = table(traffic.batches())
    columns = [n for n in live.column_names if n not in ("messages", "answers", "tags")]
    values = {str(v) for n in columns for v in live[n].unique().to_pylist()}
    values |= {str(v) for row in traffic.accounts_table.rows.values()
               for v in (row.org, row.reseller_id, row.email_domain, row.payment_hash)}  # fmt: skip
    assert [] == sorted(t for t in told if any(t in v for v in values))


def test_lookalikes_are_all_there() -> None:
    """Every kind of look-alike is in S8, and no campaign is."""
    traffic = build_traffic(Scenario("S8", n_honest=200, per_account=4.0), POOLS)
    assert set(ORDINARY) - {"drift"} <= set(traffic.truth.roles.tolist())
    assert frozenset() == traffic.truth.campaign_members()
    drifting = build_traffic(Scenario("S9", n_honest=60, per_account=4.0), POOLS)
    assert "drift" in drifting.truth.roles.tolist()


def test_drift_changes_subject_and_language() -> None:
    """In S9 some people's later questions are full of another language's small words."""
    traffic = build_traffic(Scenario("S9", n_honest=60, per_account=8.0), POOLS)
    role = dict(zip(traffic.truth.accounts, traffic.truth.roles, strict=True))
    foreign: dict[bool, list[int]] = {True: [], False: []}
    others = {word for tongue in TONGUES for word in tongue.values()}
    others -= {word for tongue in TONGUES for word in tongue}
    for batch in traffic.batches():
        for x in from_batch(batch):
            day = (x.started_at - LIVE_FROM) / DAY
            if role[x.account] == "drift" and not 4 < day < 9:
                late = day > 4
                foreign[late].append(len(set(x.question.split()) & others))
    assert np.mean(foreign[True]) > 3 * np.mean(foreign[False])


def test_company_sits_behind_one_address() -> None:
    """A company's keys share organisation, network and system prompt; a plugin's shops do not."""
    traffic = build_traffic(Scenario("S8", n_honest=150, per_account=6.0), POOLS)
    groups = dict(zip(traffic.truth.accounts, traffic.truth.groups, strict=True))
    seen: dict[str, set] = collections.defaultdict(set)
    for batch in traffic.batches():
        for x in from_batch(batch):
            kind = groups[x.account].split("-")[0]
            if kind in ("company_nat", "plugin"):
                seen[kind].add((groups[x.account], x.org, x.network_hash))
    assert len({g for g, _, _ in seen["company_nat"]}) == len(seen["company_nat"])
    assert len(seen["plugin"]) > 4


def test_levels_add_up() -> None:
    """E0 shares places and keeps an even pace; E2 shares none; E5 carries others' traffic."""
    costs = {level: evasion_cost(build(evasion=level)) for level in ("E0", "E1", "E2", "E5")}
    assert costs["E0"].networks <= costs["E1"].networks < costs["E2"].networks
    assert costs["E0"].payment_marks <= 2 < costs["E2"].payment_marks
    assert costs["E2"].exchanges_per_harvest < 1.2
    assert costs["E5"].exchanges_per_harvest > 3.0
    counts = {level: _loads(build(evasion=level)) for level in ("E0", "E2")}
    assert counts["E0"].var() / counts["E0"].mean() < 0.5
    assert counts["E2"].var() / counts["E2"].mean() > 1.0


def _loads(traffic: Traffic) -> np.ndarray:
    live = table(traffic.batches())["account"].to_pylist()
    members = traffic.truth.campaign_members()
    return np.array(list(collections.Counter(a for a in live if a in members).values()))


def _harvest(traffic: Traffic) -> list[tuple[str, str]]:
    texts = []
    for batch, start in _numbered(traffic):
        kinds = traffic.truth.kind[start : start + batch.num_rows]
        rows = zip(from_batch(batch), kinds, strict=True)
        texts += [(x.account, f"{x.system} {x.question}") for x, kind in rows if kind == 1]
    return texts


def _numbered(traffic: Traffic):
    start = 0
    for batch in traffic.batches():
        yield batch, start
        start += batch.num_rows


def _most_shared(texts: list[str]) -> float:
    """Give the share of texts that carry the phrase most of them carry."""
    phrases: collections.Counter[str] = collections.Counter()
    for text in texts:
        words = text.split()
        phrases.update({" ".join(words[i : i + 5]) for i in range(len(words) - 4)})
    return max(phrases.values()) / len(texts)


def test_paraphrases_thin_the_wording_out() -> None:
    """At E2 one phrase stands in many harvest questions; at E3 in far fewer."""
    shared = {
        level: np.mean([
            _most_shared([t for _, t in _harvest(build(evasion=level, seed=s))]) for s in range(2)
        ])
        for level in ("E2", "E3")
    }
    assert shared["E2"] > 0.15
    assert shared["E3"] < 0.6 * shared["E2"]


def test_partition_by_template() -> None:
    """Under `template` an account keeps one instruction; under `random` it uses several."""
    repeated = {}
    for partition in ("template", "random"):
        own = collections.defaultdict(list)
        for account, text in _harvest(build(partition=partition, share=0.3)):
            own[account].append(text)
        repeated[partition] = np.mean([_most_shared(t) for t in own.values() if len(t) > 5])
    assert repeated["template"] > 0.9
    assert repeated["random"] < 0.8


def test_raw_questions_carry_no_instruction() -> None:
    """With `raw` at one no harvest question has a system prompt."""
    traffic = build(raw=1.0)
    assert all(text.startswith(" ") for _, text in _harvest(traffic))


def test_each_item_is_handed_out_once() -> None:
    """Before a queue begins anew no two harvest questions are equal, save for retries."""
    texts = [t for _, t in _harvest(build(raw=1.0))]
    assert 1.0 - len(set(texts)) / len(texts) < 0.06


def test_banned_accounts_are_replaced() -> None:
    """In S6 accounts stop and others begin, and about as many work at any time."""
    traffic = build("S6", n_campaign=20, share=0.4)
    members = traffic.truth.campaign_members()
    assert 26 <= len(members) <= 60
    last = {}
    for batch in traffic.batches():
        last |= dict(
            zip(batch["account"].to_pylist(), batch["started_at"].to_pylist(), strict=True)
        )
    ended = [last[a] < LIVE_FROM + 9 * DAY for a in members if a in last]
    assert 0.15 < np.mean(ended) < 0.8


def test_release_turns_the_campaign() -> None:
    """In S7 about half the campaign's questions turn to the new model within a day or so."""
    traffic = build("S7", share=0.4)
    live = table(traffic.batches())
    is_new = np.array([m == NEW_MODEL for m in live["model"].to_pylist()])
    day = (live["started_at"].to_numpy() - LIVE_FROM) / DAY
    mine = traffic.truth.campaign >= 0
    assert not is_new[day < 6.3].any()
    assert 0.35 < is_new[mine & (day > 7.5)].mean() < 0.65
    assert 0.05 < is_new[~mine & (day > 7.5)].mean() < 0.45


def test_several_campaigns() -> None:
    """Campaigns at once are numbered, disjoint and of different sizes."""
    truth = build(n_campaigns=3, n_campaign=24).truth
    sizes = [len(truth.campaign_members(n)) for n in range(3)]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == len(truth.campaign_members())
    assert truth.harvest_ids() == truth.harvest_ids(0) | truth.harvest_ids(1) | truth.harvest_ids(2)


@pytest.mark.parametrize(
    "change",
    [{"name": "S0"}, {"evasion": "E9"}, {"families": "all"}, {"partition": "none"},
     {"n_honest": 2}, {"share": 1.0}, {"dilution": 1.0}, {"days": 0}, {"seed": -1}],
)  # fmt: skip
def test_refuses_what_it_cannot_build(change: dict) -> None:
    """A wrong setting is refused by its name."""
    with pytest.raises(InvalidInputError, match=next(iter(change))):
        Scenario(**change)
