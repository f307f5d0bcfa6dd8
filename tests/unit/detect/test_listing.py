"""Listing: every exchange of a campaign comes off the tape, sampled or not."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from detect_digests import Question, profiles_of, ragged

from stillwatch.detect.discovery.blocks import Block
from stillwatch.detect.discovery.traits import Families
from stillwatch.detect.evidence.exhibits import Value
from stillwatch.detect.findings import Campaign, Evidence, Findings
from stillwatch.detect.members.listing import Known, Listing, known_wording, list_exchanges
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.detect.profiles.tape import TapeRows, TapeWriter, Wording

_ONE, _TWO = [1, 2, 3, 4], [11, 12]
_KNOWN = Known(Wording(ragged([_ONE, _TWO]), np.array([2.0, 1.0])), ("web-one", "web-two"))
Row = tuple[str, list[int]]


def _tape(folder: Path, rows: list[Row]) -> Path:
    """Put exchanges `t0`, `t1`, ... of an account each on a tape."""
    n = len(rows)
    with TapeWriter(folder) as tape:
        tape.write(
            TapeRows(
                exchange_id=pa.array([f"t{i}" for i in range(n)], pa.string()),
                account=pa.array([name for name, _ in rows], pa.string()),
                started_at=100.0 * np.arange(n),
                input_tokens=np.full(n, 3),
                output_tokens=np.full(n, 10),
                system=np.zeros(n, np.uint64),
                shingles=ragged(shingles for _, shingles in rows),
            )
        )
    return folder


def _campaign(name: str, *accounts: str) -> Campaign:
    value = Value(kept=1, exchanges=1, output_tokens=10, is_exact=False, share_of_log=0.1)
    return Campaign(
        campaign_id=name, accounts=accounts, p_value=0.001, e_value=10.0, exchanges=1,
        output_tokens=10, first_seen=0.0, last_seen=0.0,
        evidence=(Evidence(kind="value taken", text="", exhibit=value),),
    )  # fmt: skip


def _findings(*campaigns: Campaign) -> Findings:
    return Findings(
        campaigns=campaigns, accounts=(), candidates=(), fdr=0.01, n_accounts=9, n_exchanges=99,
        n_anchors=0, reference="given",
    )  # fmt: skip


def _log() -> Profiles:
    """A log that gave out 1,000 tokens."""
    return profiles_of([Question(i // 20) for i in range(100)])


def _list(tmp_path: Path, rows: list[Row], *campaigns: Campaign, known: Known = _KNOWN):
    listing = Listing(_tape(tmp_path / "tape", rows), tmp_path / "out" / "exchanges.parquet")
    found = list_exchanges(_findings(*campaigns), known, listing, profiles=_log())
    table = pq.read_table(listing.out)
    listed = dict(
        zip(table["exchange_id"].to_pylist(), table["campaign_id"].to_pylist(), strict=True)
    )
    return found.campaigns, listed


def test_every_exchange_of_the_members_is_listed(tmp_path: Path) -> None:
    """What members asked in the campaign's wording is its own; their other questions are not."""
    rows = [("a", _ONE), ("b", [1, 2, 77]), ("a", [1, 99]), ("a", [55]), ("b", []), ("a", [3, 4])]
    (campaign,), listed = _list(tmp_path, rows, _campaign("web-one", "a", "b"))
    assert {"t0": "web-one", "t1": "web-one", "t5": "web-one"} == listed
    assert (3, 30) == (campaign.exchanges, campaign.output_tokens)
    assert (0.0, 500.0) == (campaign.first_seen, campaign.last_seen)


def test_the_value_taken_is_exact_now(tmp_path: Path) -> None:
    """What was inferred from a sample is told anew, as a share of the whole log."""
    (campaign,), _ = _list(tmp_path, [("a", _ONE)] * 4, _campaign("web-one", "a"))
    value = campaign.evidence[0].exhibit
    assert isinstance(value, Value)
    assert (4, 40, 12, True) == (
        value.exchanges, value.output_tokens, value.input_tokens, value.is_exact,
    )  # fmt: skip
    assert 0.04 == value.share_of_log


def test_accounts_outside_the_sample_join(tmp_path: Path) -> None:
    """Three exchanges in a campaign's wording make an account a member, two do not."""
    rows = [("a", _ONE), *[("new", _ONE)] * 3, *[("chance", _ONE)] * 2]
    (campaign,), listed = _list(tmp_path, rows, _campaign("web-one", "a"))
    assert ("a", "new") == campaign.accounts
    assert ["t0", "t1", "t2", "t3"] == sorted(listed)


def test_campaigns_keep_to_their_own(tmp_path: Path) -> None:
    """A member of one campaign joins no other, and counts for its own wording only."""
    rows = [*[("a", _ONE)] * 2, *[("b", _TWO)] * 2, *[("a", _TWO)] * 4]
    (one, two), listed = _list(tmp_path, rows, _campaign("web-one", "a"), _campaign("web-two", "b"))
    assert [("a",), ("b",)] == [one.accounts, two.accounts]
    assert [2, 2] == [one.exchanges, two.exchanges]
    assert ["web-one", "web-one", "web-two", "web-two"] == [listed[f"t{i}"] for i in range(4)]


def test_a_campaign_that_is_not_on_the_tape_stays_as_it_is(tmp_path: Path) -> None:
    """Where nothing of a campaign is found on the tape, what the profiles say stands."""
    before = _campaign("web-one", "a")
    (after,), listed = _list(tmp_path, [("a", [55])], before)
    assert before == after
    assert {} == listed


def test_without_campaigns_the_list_is_empty(tmp_path: Path) -> None:
    """No campaign, an empty file, and nothing changed."""
    families = Families(np.full(100, -1), ragged([]), np.empty(0, np.int64))
    known = known_wording(_log(), families, [])
    campaigns, listed = _list(tmp_path, [("a", _ONE)], known=known)
    assert ((), {}) == (campaigns, listed)


def test_wording_of_named_campaigns() -> None:
    """Each family of a named group is known by its campaign, and how much of it makes one."""
    families_of = [0, 1, 2, 1, -1]
    shingles = [list(range(10, 20)), [30, 31], [40], [30], [50]]
    profiles = profiles_of([Question(i, row) for i, row in enumerate(shingles)])
    families = Families(
        np.array(families_of), ragged([shingles[0], [30, 31], [40]]), np.zeros(3, np.int64)
    )
    accounts = np.arange(5)
    first = Block(np.array([2, 0]), accounts, np.array([0, 2]), 5)
    second = Block(np.array([1]), accounts, np.array([1, 3]), 5)
    known = known_wording(profiles, families, [("web-a", first), ("web-b", second)])
    assert ("web-a", "web-a", "web-b") == known.campaign_of
    rows = known.wording.shingles
    kept = [rows.take(np.array([i])).values.tolist() for i in range(3)]
    assert [[40], list(range(10, 20)), [30, 31]] == kept
    assert [1.0, 3.0, 1.0] == known.wording.least.round(6).tolist()
