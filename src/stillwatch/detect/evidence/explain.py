"""Why an account is named, or is not: its standing, its wording, its traits, its neighbours."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.principals import parties_of
from stillwatch.detect.discovery.blocks import Block, find_blocks
from stillwatch.detect.discovery.shared import FACTS, KINDS, key_text, spread_rows
from stillwatch.detect.discovery.skeletons import quote_rows
from stillwatch.detect.discovery.traits import Spread, find_families, spread_of
from stillwatch.detect.evidence.evidence import skeleton_name
from stillwatch.detect.evidence.exhibits import Quote
from stillwatch.detect.facts import Facts
from stillwatch.detect.findings import Candidate, Findings, owner_of
from stillwatch.detect.profiles.levels import at_level
from stillwatch.detect.profiles.profile import Ints, Profiles
from stillwatch.errors import reject
from stillwatch.text.ragged import Hashes

_NEIGHBOURS, _SKELETONS, _QUOTED, _VALUES = 8, 6, 4, 3
#: Wording that a larger share of accounts uses is everybody's and makes no neighbours: of the
#: reference, and without one of the log, of which a web may be a good part.
_COMMON_THERE, _COMMON_HERE = 0.02, 0.5
_NAMES_SUGGESTED = 5


class Habit(msgspec.Struct, frozen=True, kw_only=True):
    """A skeleton that the account uses.

    Attributes:
        group: name of the group that shares it, "" when the group was too small to look at.
        exchanges: the account's exchanges that carry it (count, of those kept).
        others: other accounts of the log that use it (count).
        reference: reference accounts that know its rarest half (count).
        samples: keys of exchanges that carry it, the account's own first, in hexadecimal.
        quotes: questions of the account and of others, side by side.
    """

    group: str
    exchanges: int
    others: int
    reference: int
    samples: tuple[str, ...] = ()
    quotes: tuple[Quote, ...] = ()


class Having(msgspec.Struct, frozen=True, kw_only=True):
    """A value of a trait that the account has.

    Attributes:
        kind: system prompt, network, payment mark and so on.
        value: its hash, hexadecimal.
        share: of the account's exchanges that have it, 0..1.
        others: other accounts of the log that have it (count).
        campaign: members of the account's campaign among them (count).
        reference: reference accounts that have it (count).
    """

    kind: str
    value: str
    share: float
    others: int
    campaign: int
    reference: int


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """An account whose wording is near.

    Attributes:
        account: its id.
        share: of the account's rare wording that this one uses too, weighed by rarity, 0..1.
        campaign_id: the campaign that names it, or "".
    """

    account: str
    share: float
    campaign_id: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of one account.

    Attributes:
        account: its id.
        standing: named, suspected (in a group that was looked at) or nothing.
        campaign_id: the campaign that names it, or "".
        reasons: sentences, the most important first.
        score: of accounts.csv, 0..1, higher = more suspicious.
        vouched: whether it is in the reference.
        exchanges: seen (count).
        kept: of which a digest is kept (count).
        output_tokens: given out to it (count).
        refused: exchanges refused or failed (count).
        first_seen: epoch seconds.
        last_seen: epoch seconds.
        habits: rare skeletons that it uses, most exchanges first.
        traits: what else it has, the rarest first.
        neighbours: nearest accounts first.
        owner_id: the hidden owner found behind it, or "".
    """

    account: str
    standing: str
    campaign_id: str
    reasons: tuple[str, ...]
    score: float
    vouched: bool
    exchanges: int
    kept: int
    output_tokens: int
    refused: int
    first_seen: float
    last_seen: float
    habits: tuple[Habit, ...]
    traits: tuple[Having, ...]
    neighbours: tuple[Neighbour, ...]
    owner_id: str = ""


class Case:
    """A log and its findings, ready to be asked about accounts.

    Args:
        profiles: the log.
        findings: what `find_campaigns` found in it.
        reference: profiles of honest accounts, as it was given.
        facts: what the accounts table knows.
        config: as it was given.
    """

    def __init__(
        self,
        profiles: Profiles,
        findings: Findings,
        *,
        reference: Profiles | None = None,
        facts: Facts | None = None,
        config: DetectConfig | None = None,
    ) -> None:
        config = config or DetectConfig()
        self.reference = reference if reference is not None and reference.n_accounts else None
        if self.reference is not None:
            level = max(profiles.level, self.reference.level)
            profiles = at_level(profiles, level, config.fold)
            self.reference = at_level(self.reference, level, config.fold)
        self.profiles, self.findings, self.facts = profiles, findings, facts
        self.spread: Spread | None = None
        if self.reference is not None:
            self.spread = spread_of(self.reference.digests, n_accounts=self.reference.n_accounts)
        parties = parties_of(profiles, facts)
        self.families = find_families(profiles, parties, self.spread, config=config)
        self.blocks = find_blocks(profiles, self.families, parties, config=config)
        self.campaign_of = {
            name: campaign.campaign_id
            for campaign in findings.campaigns
            for name in campaign.accounts
        }

    def explain(self, account: str) -> Explanation:
        """Say why an account is named or not.

        Args:
            account: its id, as the log has it.

        Returns:
            The explanation.

        Raises:
            InvalidInputError: the log has no such account.
        """
        number = _number_of(self.profiles, account)
        digests, totals = self.profiles.digests, self.profiles.totals
        rows = np.flatnonzero(digests.account == number)
        row = next(r for r in self.findings.accounts if r.account == account)
        named = self.campaign_of.get(account, "")
        habits, groups = self._habits(number, rows)
        owner = owner_of(self.findings, account)
        return Explanation(
            account=account,
            standing="named" if named else "suspected" if groups else "nothing",
            campaign_id=named,
            reasons=self._reasons(account, rows, groups) + ((owner.reason,) if owner else ()),
            score=row.score,
            vouched=_is_in(self.reference, account),
            exchanges=int(totals.exchanges[number]),
            kept=len(rows),
            output_tokens=int(totals.output_tokens[number]),
            refused=int(totals.refused[number]),
            first_seen=float(totals.first_seen[number]),
            last_seen=float(totals.last_seen[number]),
            habits=habits,
            traits=_traits(self, number, rows),
            neighbours=_neighbours(self, number, rows),
            owner_id=owner.owner_id if owner else "",
        )

    def _habits(self, number: int, rows: Ints) -> tuple[tuple[Habit, ...], list[Block]]:
        families, digests = self.families, self.profiles.digests
        mine = families.of_digest[rows]
        used, counts = np.unique(mine[mine >= 0], return_counts=True)
        habits: list[Habit] = []
        groups: list[Block] = []
        grouped = {family for block in self.blocks for family in block.families.tolist()}
        alone = np.array([family not in grouped for family in used.tolist()], dtype=bool)
        order = np.lexsort((-counts, alone))
        for family, n in zip(used[order].tolist(), counts[order].tolist(), strict=True):
            block = next((b for b in self.blocks if family in b.families), None)
            if block is not None and all(block is not group for group in groups):
                groups.append(block)
            if len(habits) == _SKELETONS:
                continue
            every = np.flatnonzero(families.of_digest == family)
            picked = self._picked(number, every)
            habit = Habit(
                group=skeleton_name(families, block) if block is not None else "",
                exchanges=n,
                others=len(np.unique(digests.account[every])) - 1,
                reference=int(families.elsewhere[family]),
                samples=tuple(key_text(digests, row) for row in picked.tolist()),
                quotes=quote_rows(self.profiles, picked),
            )
            habits.append(habit)
        return tuple(habits), groups

    def _picked(self, number: int, rows: Ints) -> Ints:
        digests = self.profiles.digests
        mine = digests.account[rows] == number
        own = spread_rows(digests, rows[mine], 2)
        return np.concatenate([own, spread_rows(digests, rows[~mine], _QUOTED - len(own))])

    def _reasons(self, account: str, rows: Ints, groups: list[Block]) -> tuple[str, ...]:
        named = self.campaign_of.get(account)
        reasons = []
        if named is not None:
            campaign = next(c for c in self.findings.campaigns if c.campaign_id == named)
            told = {evidence.kind: evidence.text for evidence in campaign.evidence}
            shares = any(account_rows(self.profiles, group, account) for group in groups)
            how = "it uses the wording that the campaign shares" if shares else (
                "it asks what the campaign asks, without its wording"
            )  # fmt: skip
            reasons.append(f"It is a member of {named}: {how}.")
            reasons += [told[k] for k in ("shared wording", "interchangeable members") if k in told]
            return tuple(reasons)
        for group in groups:
            candidate = self._candidate(group)
            name = skeleton_name(self.families, group)
            if candidate is None:
                reasons.append(f"It shares wording with the group {name}, which was looked at.")
            elif candidate.named:
                reasons.append(
                    f"It uses wording of the campaign {name}, but left it: most of what it asks "
                    "comes back to it, or was asked by others too, as people's questions do."
                )
            else:
                reasons.append(
                    f"It shares wording with {candidate.accounts} accounts ({name}), which are not "
                    f"named: {candidate.reason}."
                )
        if not groups:
            reasons.append(self._why_nothing(rows))
        if _is_in(self.reference, account):
            reasons.append("The reference vouches for it: it never joins without shared wording.")
        return tuple(reasons)

    def _why_nothing(self, rows: Ints) -> str:
        if not len(rows):
            return "No exchange of it is kept."
        if not self.profiles.digests.text[rows].any():
            return "The log has no questions of it: nothing can be compared."
        if (self.families.of_digest[rows] >= 0).any():
            return (
                "It uses wording that some other accounts use too, but too few of them, or for "
                "too few questions, to be looked at."
            )
        return "It shares no rare wording with enough other accounts to be in any group."

    def _candidate(self, group: Block) -> Candidate | None:
        name = skeleton_name(self.families, group)
        found = [c for c in self.findings.candidates if c.name == name]
        if found:
            return found[0]
        place = next((i for i, block in enumerate(self.blocks) if block is group), -1)
        if 0 <= place < len(self.findings.candidates) == len(self.blocks):
            return self.findings.candidates[place]
        return None


def account_rows(profiles: Profiles, group: Block, account: str) -> bool:
    """Tell whether an account asked any question of a group.

    Args:
        profiles: the log.
        group: the group.
        account: its id.

    Returns:
        Whether it did.
    """
    number = pc.index(profiles.accounts, account).as_py()
    return bool((profiles.digests.account[group.rows] == number).any())


def _number_of(profiles: Profiles, account: str) -> int:
    number = int(pc.index(profiles.accounts, account).as_py())
    if number < 0:
        like = pc.match_substring(profiles.accounts, account[:4] or "?", ignore_case=True)
        near = profiles.accounts.filter(like)[:_NAMES_SUGGESTED].to_pylist()
        hint = f"accounts like it: {', '.join(near)}" if near else "accounts.csv lists them all"
        reject("detect", "--explain", "an account of the log", got=account, hint=hint)
    return number


def _is_in(reference: Profiles | None, account: str) -> bool:
    return reference is not None and int(pc.index(reference.accounts, account).as_py()) >= 0


def _traits(case: Case, number: int, rows: Ints) -> tuple[Having, ...]:
    digests, found = case.profiles.digests, []
    for name, kind in KINDS.items():
        column: Hashes = getattr(digests, name)
        values, counts = np.unique(column[rows][column[rows] != 0], return_counts=True)
        for i in np.argsort(-counts, kind="stable")[:_VALUES].tolist():
            users = np.unique(digests.account[column == values[i]])
            known = 0
            if case.reference is not None:
                there = case.reference.digests
                same = getattr(there, name) == values[i]
                known = len(np.unique(there.account[same]))
            share = float(counts[i]) / len(rows)
            found.append(_having(case, kind, values[i], who=(number, users, known), share=share))
    if case.facts is not None:
        for name, kind in FACTS.items():
            column = getattr(case.facts, name)
            if column[number]:
                users = np.flatnonzero(column == column[number])
                found.append(_having(case, kind, column[number], who=(number, users, 0), share=1.0))
    return tuple(sorted(found, key=lambda having: (having.others == 0, having.others)))


def _having(
    case: Case, kind: str, value: np.uint64, *, who: tuple[int, Ints, int], share: float
) -> Having:
    number, users, known = who
    account = case.profiles.accounts[number].as_py()
    campaign = case.campaign_of.get(account)
    members = 0
    if campaign is not None:
        names = case.profiles.accounts.take(pa.array(users)).to_pylist()
        members = sum(case.campaign_of.get(n) == campaign for n in names if n != account)
    return Having(
        kind=kind,
        value=f"{int(value):016x}",
        share=share,
        others=len(users) - 1,
        campaign=members,
        reference=known,
    )


def _neighbours(case: Case, number: int, rows: Ints) -> tuple[Neighbour, ...]:
    digests, n = case.profiles.digests, case.profiles.n_accounts
    mine = np.unique(digests.shingles.take(rows).values)
    if not len(mine):
        return ()
    values = digests.shingles.values
    place = np.minimum(np.searchsorted(mine, values), len(mine) - 1)
    hit = np.flatnonzero(mine[place] == values)
    account = digests.account[digests.shingles.rows[hit]]
    pairs = np.unique(place[hit] * np.int64(n) + account)
    value, user = pairs // n, pairs % n
    users = np.bincount(value, minlength=len(mine))
    if case.spread is not None:
        known, n_known, most = case.spread.of(mine), case.spread.n_accounts, _COMMON_THERE
    else:
        known, n_known, most = users, n, _COMMON_HERE
    weight = np.log((n_known + 1.0) / (known + 1.0))
    weight[(known > max(1.0, most * n_known)) | (users < 2)] = 0.0
    total = float(weight.sum())
    if total <= 0.0:
        return ()
    score = np.bincount(user, weight[value], minlength=n) / total
    score[number] = -1.0
    order = np.lexsort((np.arange(n), -score))[:_NEIGHBOURS]
    names = case.profiles.accounts.take(pa.array(order)).to_pylist()
    return tuple(
        Neighbour(account=name, share=float(score[i]), campaign_id=case.campaign_of.get(name, ""))
        for i, name in zip(order.tolist(), names, strict=True)
        if score[i] > 0.0
    )
