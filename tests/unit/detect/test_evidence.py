"""Evidence shows what it says: exhibits, other explanations, exact sums, quotes from the log."""

import numpy as np
import pytest

from stillwatch.detect import DetectConfig, Findings, fold, no_profiles
from stillwatch.detect.confirmation.confirm import Judged
from stillwatch.detect.confirmation.principals import Registry, parties_of
from stillwatch.detect.confirmation.selfcheck import check_calibration
from stillwatch.detect.discovery.blocks import find_blocks
from stillwatch.detect.discovery.shared import holders, is_shared, shared_traits
from stillwatch.detect.discovery.traits import find_families, spread_of
from stillwatch.detect.evidence.doubts import Seen, weigh_doubts
from stillwatch.detect.evidence.evidence import Background, describe, recount
from stillwatch.detect.evidence.exhibits import (
    Doubts,
    Null,
    Timeline,
    Trait,
    Traits,
    Value,
    Web,
    Wordings,
)
from stillwatch.detect.evidence.scenes import skeleton_letter, timeline_of, value_of
from stillwatch.detect.evidence.worth import Price
from stillwatch.detect.facts import no_facts
from stillwatch.detect.members.companions import NOBODY
from stillwatch.detect.members.reread import Read, enrich, keys_of, read_exchanges
from stillwatch.detect.profiles.tape import Taken
from stillwatch.record.exchange import Exchange, Message, to_batch


@pytest.fixture(scope="module")
def findings(found) -> Findings:
    """What is found in the small world."""
    return found


@pytest.fixture(scope="module")
def exhibits(findings) -> dict[type, object]:
    """What its campaign shows, by kind."""
    return {type(e.exhibit): e.exhibit for e in findings.campaigns[0].evidence if e.exhibit}


def test_wordings_count_members_and_others(world, exhibits) -> None:
    """Each skeleton names how many use it, and quotes members with the shared part marked."""
    wordings = exhibits[Wordings]
    assert wordings.total == len(wordings.items)
    for item in wordings.items:
        assert 3 <= item.members <= len(world.web)
        assert item.exchanges >= item.members
        assert all(quote.account in world.web for quote in item.quotes)
        assert any(quote.marks for quote in item.quotes)


def test_the_web_joins_accounts_to_things(exhibits) -> None:
    """Every edge leads from an account that is drawn to a thing that is drawn."""
    web = exhibits[Web]
    kinds = {node.id: node.kind for node in web.nodes}
    assert web.edges
    assert {("account", "trait")} == {(kinds[a], kinds[b]) for a, b in web.edges}
    assert web.members >= sum(node.member for node in web.nodes)


def test_the_timeline_counts_every_question(exhibits, findings) -> None:
    """Bins, hours and first appearances all add up."""
    line = exhibits[Timeline]
    value = exhibits[Value]
    assert value.kept == sum(line.questions) == sum(line.hours)
    assert len(findings.campaigns[0].accounts) == sum(line.joined)
    assert max(line.active) <= len(findings.campaigns[0].accounts)


def test_the_null_stands_beside_the_group(exhibits) -> None:
    """The group's bound is below what any honest group has."""
    null = exhibits[Null]
    assert sorted(null.honest) == list(null.honest)
    assert null.found < null.honest[0]


def test_doubts_are_weighed(exhibits) -> None:
    """What the log rules out is said to be ruled out; one party behind it never is."""
    doubts = exhibits[Doubts]
    verdicts = {d.explanation[:9]: d.verdict for d in doubts.items}
    assert "open" == verdicts["One party"]
    assert "against" == verdicts["Users of "] == verdicts["Chance: a"] == verdicts["A class w"]
    order = [("for", "open", "against").index(d.verdict) for d in doubts.items]
    assert sorted(order) == order


def test_one_network_speaks_for_a_company() -> None:
    """Where most members come from one network, a company is not ruled out."""
    trait = Trait(kind="network", distinct=2, top=19, members=20, others=0, others_known=300)
    seen = Seen(
        members=20,
        parties=20,
        revisited=0.3,
        null=None,
        p_value=0.2,
        traits=Traits(items=(trait,)),
    )
    verdicts = {d.explanation[:11]: d.verdict for d in weigh_doubts(seen).items}
    assert "for" == verdicts["One company"]
    assert {"open"} == {v for name, v in verdicts.items() if name != "One company"}


def _log(n: int, **fields: object) -> list[Exchange]:
    return [
        Exchange(
            exchange_id=f"{fields.get('tag', 'x')}{i}-{k}",
            account=f"{fields.get('tag', 'x')}{i}",
            started_at=1e9 + 60.0 * i + k,
            messages=(Message("user", f"question {i} {k}"),),
            network_hash=str(fields.get("network", f"n{i}")),
            output_tokens=10,
        )
        for i in range(n)
        for k in range(3)
    ]


def test_a_rare_shared_trait_is_told_from_a_common_one() -> None:
    """One network at all members and nobody else is shared; everybody's software is not."""
    profiles = fold([to_batch([*_log(20, tag="m", network="one"), *_log(60, tag="o")])])
    members = np.flatnonzero([name.startswith("m") for name in profiles.accounts.to_pylist()])
    rows = np.flatnonzero(np.isin(profiles.digests.account, members))
    traits = {t.kind: t for t in shared_traits(profiles, rows, members).items}
    network = traits["network"]
    assert (1, 20, 20, 0, 60) == (
        network.distinct,
        network.top,
        network.members,
        network.others,
        network.others_known,
    )
    assert is_shared(network)
    assert not is_shared(traits["model and settings"])


def test_holders_count_accounts_not_exchanges() -> None:
    """An account that has a value twice counts once; 0 is not a value."""
    values = np.array([5, 5, 5, 7, 0], dtype=np.uint64)
    found = holders(values, np.array([0, 0, 1, 1, 2]))
    assert [5, 7] == found.values.tolist()
    assert [2, 1] == found.accounts.tolist()
    assert (2, 2, 0) == (found.known, found.of(5), found.of(6))


def test_value_is_inferred_from_a_sample() -> None:
    """With a third of the exchanges kept, exchanges and tokens are scaled up and said to be."""
    profiles = fold([to_batch(_log(30, tag="m"))])
    every = np.arange(len(profiles.digests.account))
    whole = value_of(profiles, every)
    assert (90, 900, True) == (whole.exchanges, whole.output_tokens, whole.is_exact)
    fewer = profiles._replace(digests=profiles.digests.take(every[::3]))
    part = value_of(fewer, np.arange(len(fewer.digests.account)))
    assert (90, 900, False) == (part.exchanges, part.output_tokens, part.is_exact)


def test_recount_puts_exact_sums_in_place(findings) -> None:
    """The tape's sums replace what was inferred, in figures and sentence."""
    taken = Taken(exchanges=5000, input_tokens=7, output_tokens=1234, first_seen=1.0, last_seen=2.0)
    evidence = recount(findings.campaigns[0].evidence, taken, log_tokens=12340)
    told = next(e for e in evidence if e.kind == "value taken")
    assert "1,234 output tokens in answer to 5,000 questions, 10.0%" in told.text
    assert told.exhibit.is_exact
    assert len(evidence) == len(findings.campaigns[0].evidence)


def test_unknown_times_have_no_timeline() -> None:
    """A log that tells no times shows none, rather than 1970."""
    log = [
        Exchange(exchange_id=f"x{i}", account="a", started_at=1.0, messages=()) for i in range(4)
    ]
    profiles = fold([to_batch(log)])
    assert timeline_of(profiles.digests, np.arange(4)) is None


def test_keys_are_those_of_the_profiles(world, folded) -> None:
    """An exchange is found again by the key that its profile keeps."""
    batch = to_batch(world.live)
    keys = set(keys_of(batch["exchange_id"]).tolist())
    assert set(folded[0].digests.key.tolist()) <= keys


def test_enriched_evidence_quotes_the_log(world, folded, findings) -> None:
    """Longer quotes, the models asked, and their price, are read from the log again."""
    batch = to_batch(world.live)
    told = enrich(
        findings,
        folded[0],
        lambda wanted: read_exchanges([batch], wanted),
        prices=[Price("m", 2.0, 10.0)],
    )
    found = {type(e.exhibit): e.exhibit for e in told.campaigns[0].evidence if e.exhibit}
    assert "log" == found[Wordings].quoted_from
    value = found[Value]
    assert {"m": 1.0} == value.models
    spent = (value.output_tokens * 10.0 + (value.input_tokens or 0) * 2.0) / 1e6
    assert spent == pytest.approx(value.usd)
    assert any("prices given" in e.text for e in told.campaigns[0].evidence)
    asked = {exchange.question for exchange in world.live}
    assert all(q.text in asked for item in found[Wordings].items for q in item.quotes)


def test_a_log_that_cannot_be_read_again_leaves_evidence_as_it_was(folded, findings) -> None:
    """Standard input is gone after one pass: beginnings are quoted, no price is made up."""

    def nothing(_: object) -> dict[str, Read]:
        return {}

    told = enrich(findings, folded[0], nothing)
    value = next(e.exhibit for e in told.campaigns[0].evidence if isinstance(e.exhibit, Value))
    assert value.usd is None
    wordings = next(e.exhibit for e in told.campaigns[0].evidence if e.kind == "shared wording")
    assert "profiles" == wordings.quoted_from


def test_letters_go_on_after_z() -> None:
    """Skeletons are lettered without end."""
    assert ["Z", "AA", "AZ", "BA"] == [skeleton_letter(i) for i in (25, 26, 51, 52)]


def test_calibration_is_checked_on_halves(folded) -> None:
    """Rates rise with the nominal one and lie in their intervals; a small reference has none."""
    check = check_calibration(folded[1])
    assert check is not None
    rates = [seen for _, seen, _, _ in check.points]
    assert sorted(rates) == rates
    assert all(low <= high for _, _, low, high in check.points)
    assert check_calibration(no_profiles()) is None


def test_a_background_adds_owners_and_rarity(folded) -> None:
    """With a reference and an accounts table the evidence says who stands behind, and how rare."""
    live, reference = folded
    facts = no_facts(live.n_accounts)
    payment = np.arange(1, live.n_accounts + 1, dtype=np.uint64)
    facts = facts._replace(known=np.ones(live.n_accounts, dtype=bool), payment=payment)
    spread = spread_of(reference.digests, n_accounts=reference.n_accounts)
    parties = parties_of(live, facts)
    families = find_families(live, parties, spread, config=DetectConfig())
    block = find_blocks(live, families, parties, config=DetectConfig())[0]
    payment[block.accounts[:30]] = 7
    background = Background(reference=reference, facts=facts, registry=Registry(live, facts))
    judged = Judged(block=block, tested=None, revisited=0.0, p_value=1e-6, reason="")
    told = {
        e.kind: e
        for e in describe(
            live, families, judged, companions=NOBODY, given=True, background=background
        )
    }
    traits = {t.kind: t for t in told["shared traits"].exhibit.items}
    assert (30, True) == (traits["payment mark"].top, is_shared(traits["payment mark"]))
    assert traits["client software"].reference_known > 0
    assert "payment mark at 30" in told["shared traits"].text
    assert told["who stands behind them"].figures["linked"] < len(block.accounts) - 20
    assert all(0.0 <= p <= 1.0 for p in told["timing"].figures.values())
    doubts = {d.explanation[:9]: d.verdict for d in told["innocent explanation"].exhibit.items}
    assert "for" == doubts["One party"]
    assert "open" == doubts["Users of "]
