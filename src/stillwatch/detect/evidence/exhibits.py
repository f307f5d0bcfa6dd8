"""What a piece of evidence shows besides its sentence: plain records that a page can draw."""

from __future__ import annotations

import msgspec


class Quote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question as it was asked, with the parts marked that others share.

    Attributes:
        account: who asked.
        text: the beginning of the question.
        marks: pairs of positions in `text`, from (inclusive) and to (exclusive), of the wording
            that the exchanges quoted beside it share.
        exchange_id: as the log gave it, "" when the profiles did not keep it.
        started_at: epoch seconds.
        system: the beginning of its system prompt, when that was read too.
        system_marks: as `marks`, in `system`.
    """

    account: str
    text: str
    marks: tuple[tuple[int, int], ...] = ()
    exchange_id: str = ""
    started_at: float = 0.0
    system: str = ""
    system_marks: tuple[tuple[int, int], ...] = ()


class Wording(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One skeleton that members share.

    Attributes:
        name: A, B, C ... in order of exchanges; "other" for what joined without shared wording.
        members: members that use it (count).
        exchanges: exchanges kept that carry it (count).
        others: other accounts of the log that use it (count).
        reference: reference accounts that know its rarest half (count).
        samples: keys of exchanges that carry it, of different accounts, in hexadecimal.
        quotes: some of them, side by side.
    """

    name: str
    members: int
    exchanges: int
    others: int
    reference: int
    samples: tuple[str, ...] = ()
    quotes: tuple[Quote, ...] = ()


class Wordings(msgspec.Struct, frozen=True, kw_only=True, tag="wordings"):
    """The skeletons of a campaign.

    Attributes:
        items: most exchanges first.
        total: how many there are, listed or not.
        quoted_from: "profiles" (beginnings only) or "log" (read again).
    """

    items: tuple[Wording, ...]
    total: int
    quoted_from: str = "profiles"


class Trait(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something besides the wording, and who has it.

    Attributes:
        kind: system prompt, tool definitions, model and settings, network, client software,
            organisation.
        distinct: different values among members (count).
        top: members that have the commonest value (count).
        members: members of which it is known (count).
        others: other accounts of the log that have that value (count).
        others_known: other accounts of which it is known (count).
        reference: reference accounts that have it (count).
        reference_known: reference accounts of which it is known (count).
        label: the value in words, "" when only its hash is known.
        sample: key of an exchange that has it, in hexadecimal.
    """

    kind: str
    distinct: int
    top: int
    members: int
    others: int
    others_known: int
    reference: int = 0
    reference_known: int = 0
    label: str = ""
    sample: str = ""

    @property
    def likelihood(self) -> float:
        """How many times as often members have it as others do, half a case added to each."""
        among = (self.top + 0.5) / (self.members + 1.0)
        known = self.others_known + self.reference_known
        return among / ((self.others + self.reference + 0.5) / (known + 1.0))


class Traits(msgspec.Struct, frozen=True, kw_only=True, tag="traits"):
    """What else members share, or do not.

    Attributes:
        items: one a kind, also those in which nothing is shared.
        missing: kinds of which the log says nothing.
    """

    items: tuple[Trait, ...]
    missing: tuple[str, ...] = ()


class Null(msgspec.Struct, frozen=True, kw_only=True, tag="null"):
    """A campaign's statistic beside that of honest groups.

    Attributes:
        found: the campaign's upper bound of the ownership ratio; 1 = interchangeable.
        honest: those of honest groups, sorted.
        accounts: accounts in each of the groups compared (count).
        questions: questions of an account at most.
        limit: above this ratio a group is people, whatever its rank.
    """

    found: float
    honest: tuple[float, ...]
    accounts: int
    questions: int
    limit: float = 2.5


class Timeline(msgspec.Struct, frozen=True, kw_only=True, tag="timeline"):
    """When the campaign asked.

    Attributes:
        start: of the first bin, epoch seconds.
        step_s: width of a bin, seconds.
        questions: exchanges of the campaign in each bin (count, of those kept).
        active: members active in each bin (count).
        joined: members whose first campaign question falls in each bin (count).
        hours: exchanges by hour of the day, UTC, 24 counts.
        other_hours: the same of all other exchanges kept.
    """

    start: float
    step_s: float
    questions: tuple[int, ...]
    active: tuple[int, ...]
    joined: tuple[int, ...]
    hours: tuple[int, ...]
    other_hours: tuple[int, ...]


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="value"):
    """What the campaign took away.

    Attributes:
        kept: its exchanges of which the profiles keep a digest (count).
        exchanges: its exchanges in all (count); estimated from those kept unless `is_exact`.
        output_tokens: tokens of their answers (count), as above.
        input_tokens: tokens of their questions (count); None when not known.
        is_exact: every exchange was seen, none had to be inferred from a sample.
        share_of_log: share of all answers of the log, 0..1.
        usd: at list prices; None when no price is known for the models asked.
        usd_per_million: price of a million input and output tokens, averaged over models.
        priced: where the prices come from, a clause.
        models: model -> share of the exchanges read again.
        subjects: subject -> share of the exchanges read again whose words name it.
        words: words that set the questions apart from those of others, strongest first.
        flags: property that makes an answer worth training on -> (share here, share elsewhere).
        read_again: exchanges that models, subjects and words were read from (count).
    """

    kept: int
    exchanges: int
    output_tokens: int
    is_exact: bool
    share_of_log: float
    input_tokens: int | None = None
    usd: float | None = None
    usd_per_million: tuple[float, float] | None = None
    priced: str = ""
    models: dict[str, float] = {}
    subjects: dict[str, float] = {}
    words: tuple[str, ...] = ()
    flags: dict[str, tuple[float, float]] = {}
    read_again: int = 0


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """An innocent explanation, and what the log says about it.

    Attributes:
        explanation: what else it could be.
        expected: what the log would show then.
        seen: what it shows.
        verdict: "against" when the two differ, "open" when the log cannot tell, "for" when it
            fits.
        settle: what settles it.
    """

    explanation: str
    expected: str
    seen: str
    verdict: str
    settle: str


class Doubts(msgspec.Struct, frozen=True, kw_only=True, tag="doubts"):
    """Everything else that it could be.

    Attributes:
        items: most plausible first.
    """

    items: tuple[Doubt, ...]


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dot of the picture.

    Attributes:
        id: unique in the picture.
        kind: account or trait.
        label: account id, or what is shared.
        member: whether the account is a member.
        exchanges: exchanges of the campaign, or, of other accounts, all of them (count).
    """

    id: str
    kind: str
    label: str
    member: bool = False
    exchanges: int = 0


class Web(msgspec.Struct, frozen=True, kw_only=True, tag="web"):
    """Who shares what: a sample of members and of others, joined to what they share.

    Attributes:
        nodes: accounts and traits.
        edges: pairs of ids, account first.
        members: members in all (count); those drawn are a sample when fewer.
        others: other accounts that share something of it in all (count).
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    members: int
    others: int


Exhibit = Wordings | Traits | Null | Timeline | Value | Doubts | Web
