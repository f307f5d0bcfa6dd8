"""What `detect` says, in the benchmark's numbers."""

from stillwatch.detect import Campaign, Findings
from stillwatch.record.exchange import Exchange, to_batch
from yardstick.observed import observe
from yardstick.ours import to_groups


def _campaign(accounts: tuple[str, ...], exchange_ids: tuple[str, ...]) -> Campaign:
    return Campaign(
        campaign_id="c", accounts=accounts, p_value=0.25, e_value=1.0, exchanges=3,
        output_tokens=0, first_seen=0.0, last_seen=0.0, evidence=(), exchange_ids=exchange_ids,
    )  # fmt: skip


def test_listed_exchanges_become_rows() -> None:
    """Listed exchanges are found by id; a campaign that lists none means all of its members'."""
    asked = [("b", "x1"), ("a", "x2"), ("b", "x3"), ("c", "x4")]
    log = [to_batch(Exchange(exchange_id=x, account=a, started_at=1.0) for a, x in asked)]
    campaigns = (_campaign(("b", "c"), ("x3", "x4")), _campaign(("a", "b"), ()))
    findings = Findings(
        campaigns=campaigns, accounts=(), candidates=(), fdr=0.1, n_accounts=3, n_exchanges=4,
        n_anchors=0, reference="given",
    )  # fmt: skip
    listing, silent = to_groups(findings, observe(log, has_traits=False))
    assert ([1, 2], [2, 3], -0.25) == (
        listing.accounts.tolist(),
        listing.rows.tolist(),
        listing.score,
    )
    assert ([0, 1], [0, 1, 2]) == (silent.accounts.tolist(), silent.rows.tolist())
