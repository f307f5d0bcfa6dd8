"""What `detect` says: campaigns with their evidence, every candidate with its reason, accounts."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillwatch.detect.evidence.exhibits import Exhibit
from stillwatch.errors import EnvironmentUnfitError


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One reason, in a sentence that a person can check.

    Attributes:
        kind: shared wording, interchangeable members, nothing asked twice, companions, shared
            traits, timing, who stands behind them, web, timeline, value taken, innocent
            explanation.
        text: the sentence.
        examples: beginnings of questions that show it.
        figures: the numbers behind the sentence, by name.
        exhibit: what there is to look at, or None.
    """

    kind: str
    text: str
    examples: tuple[str, ...] = ()
    figures: dict[str, float] = {}
    exhibit: Exhibit | None = None


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """A web of accounts that works one queue of questions.

    Attributes:
        campaign_id: from the wording that its members share, so it tends to stay over days.
        accounts: its members, sorted, as the log named them.
        p_value: chance that an honest group like those of the reference looks like this; conformal.
        e_value: the same as an e-value.
        exchanges: all exchanges of its members (count).
        output_tokens: all tokens given out to its members (count).
        first_seen: first exchange with the shared wording, epoch seconds.
        last_seen: last one.
        evidence: why, and what else it could be.
        exchange_ids: exchanges that carry the shared wording, among those kept in the profiles.
    """

    campaign_id: str
    accounts: tuple[str, ...]
    p_value: float
    e_value: float
    exchanges: int
    output_tokens: int
    first_seen: float
    last_seen: float
    evidence: tuple[Evidence, ...]
    exchange_ids: tuple[str, ...] = ()


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A group that shares rare wording, named or not: so that silence can be checked too.

    Attributes:
        accounts: members (count).
        exchanges: exchanges that carry the shared wording (count).
        p_value: its conformal p-value; 1.0 when it was not tested.
        ratio: how much rare words belong to single members, 1 = interchangeable; None = untested.
        revisited: share of questions that another member asked too.
        named: whether it became a campaign.
        reason: why it was named or not, one sentence.
        example: beginning of a question.
        name: after the wording that it shares; a named one's is its campaign's id.
    """

    accounts: int
    exchanges: int
    p_value: float
    ratio: float | None
    revisited: float
    named: bool
    reason: str
    example: str
    name: str = ""


class AccountScore(NamedTuple):
    """One account's standing.

    Attributes:
        account: as the log named it.
        score: 0..1, higher = more suspicious; above 0.5 only in a named campaign.
        campaign_id: the campaign that names it, or "".
        exchanges: all of its exchanges (count).
        matching: its exchanges that carry a candidate group's wording (count, of those kept).
        output_tokens: given out to it (count).
    """

    account: str
    score: float
    campaign_id: str
    exchanges: int
    matching: int
    output_tokens: int


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How often honest groups would have been named.

    Attributes:
        points: nominal rate, rate that was seen, and the ends of its 95 % interval, 0..1 each.
        groups: honest groups judged (count).
        apart: as many that share no account carry as much (count).
        text: the same in a sentence.
    """

    points: tuple[tuple[float, float, float, float], ...]
    groups: int
    apart: int
    text: str


class Lone(msgspec.Struct, frozen=True, kw_only=True):
    """An account unlike the reference: worth a look, never called a campaign.

    Attributes:
        account: its id.
        p_value: share of honest accounts of like volume that are as unlike.
        exchanges: all of its exchanges (count).
        output_tokens: given out to it (count).
        reason: in what it is unlike, one clause.
    """

    account: str
    p_value: float
    exchanges: int
    output_tokens: int
    reason: str


class OwnerMark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that several names of one hidden owner have, beyond chance.

    Attributes:
        kind: payment mark, sign-up address, e-mail address, e-mail domain, network ...
        has_one_holder: whether strangers have no reason to share it.
        accounts: of the owner's that have it (count).
        names: declared parties of the owner's that have it (count).
        elsewhere: other parties of the log that have it (count).
    """

    kind: str
    has_one_holder: bool
    accounts: int
    names: int
    elsewhere: int


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Names that share one owner: evidence about accounts, not about harvesting; no campaign.

    Attributes:
        owner_id: from the first of its accounts, so it stays while that one is found.
        accounts: theirs, sorted, as the log named them.
        p_value: chance that so many names of a random group share such a mark.
        names: organisations, resellers and single accounts that they declare to be (count).
        holders: what is left of these when names that share something are one (count).
        backed: accounts that have a shared mark of one holder (count).
        exchanges: all exchanges of the accounts (count).
        output_tokens: all tokens given out to them (count).
        marks: what they share, marks of one holder first.
        found_by: kinds of trait that the group was found by; the p-value does not rest on them.
        campaigns: accounts of the owner's in each named campaign (count), by its id.
        text: the same in a sentence or two.
    """

    owner_id: str
    accounts: tuple[str, ...]
    p_value: float
    names: int
    holders: int
    backed: int
    exchanges: int
    output_tokens: int
    marks: tuple[OwnerMark, ...]
    found_by: tuple[str, ...]
    campaigns: dict[str, int]
    text: str

    @property
    def reason(self) -> str:
        """What one of the accounts is told."""
        return (
            f"It is one of {len(self.accounts)} accounts that share one owner ({self.owner_id}, "
            f"p = {self.p_value:.2g}), which is evidence about accounts, not about harvesting: "
            f"{self.text}"
        )


class ReferenceWeb(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign in the traffic that was given as honest; its accounts left the reference.

    Attributes:
        accounts: who.
        p_value: of the search of the reference alone, whose own bulk stood in for honest traffic.
        exchanges: what its accounts asked there (count).
        first_seen: UTC epoch seconds.
        last_seen: UTC epoch seconds.
    """

    accounts: tuple[str, ...]
    p_value: float
    exchanges: int
    first_seen: float
    last_seen: float


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `detect`.

    Attributes:
        campaigns: named at the stated false discovery rate, most exchanges first.
        accounts: every account, the most suspicious first.
        candidates: every group that was looked at.
        fdr: the stated rate.
        n_accounts: accounts of the log (count).
        n_exchanges: exchanges of the log (count).
        n_anchors: honest accounts that the p-values rest on (count).
        reference: "given", or "the log itself" when there was none.
        lone: accounts unlike the reference, in no campaign, smallest p-value first.
        calibration: a check of the p-values on the reference; None when it was not made.
        owners: names that share one owner, most accounts first; None when they were not looked
            for, because no table of accounts gives payments or sign-ups.
        reference_webs: campaigns that the reference itself held; it was used without them.
    """

    campaigns: tuple[Campaign, ...]
    accounts: tuple[AccountScore, ...]
    candidates: tuple[Candidate, ...]
    fdr: float
    n_accounts: int
    n_exchanges: int
    n_anchors: int
    reference: str
    lone: tuple[Lone, ...] = ()
    calibration: Calibration | None = None
    owners: tuple[Owner, ...] | None = None
    reference_webs: tuple[ReferenceWeb, ...] = ()


def owner_of(findings: Findings, account: str) -> Owner | None:
    """Look up the hidden owner of an account.

    Args:
        findings: the result of `detect`.
        account: its id.

    Returns:
        The owner, or None when none was found.
    """
    return next((one for one in findings.owners or () if account in one.accounts), None)


def write_findings(findings: Findings, out: Path) -> tuple[Path, Path]:
    """Write `campaigns.json` and `accounts.csv`, each whole or not at all.

    Args:
        findings: the result of `detect`.
        out: folder, made when absent.

    Returns:
        The two paths.

    Raises:
        EnvironmentUnfitError: the folder cannot be written.
    """
    document = {
        name: getattr(findings, name) for name in findings.__struct_fields__ if name != "accounts"
    }
    body = msgspec.json.format(msgspec.json.encode(document), indent=2)
    rows = io.StringIO(newline="")
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(AccountScore._fields)
    table.writerows(row._replace(score=round(row.score, 4)) for row in findings.accounts)
    return (
        write_text(out / "campaigns.json", body.decode() + "\n"),
        write_text(out / "accounts.csv", rows.getvalue()),
    )


def write_text(path: Path, text: str) -> Path:
    """Write a file of findings, whole or not at all.

    Args:
        path: the file; its folder is made when absent.
        text: what it holds.

    Returns:
        The path.

    Raises:
        EnvironmentUnfitError: the folder cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", newline="")
        os.replace(part, path)
    except OSError as error:
        message = f"detect: {path.parent} cannot be written: {error.strerror}"
        raise EnvironmentUnfitError(message, hint="choose another --out") from error
    return path
