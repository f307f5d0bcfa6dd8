"""Evidence in words: what a person can check, and what else it could be."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import numpy as np
import xxhash

from stillwatch.detect.confirmation.activity import activity_of, background_of, lives_of
from stillwatch.detect.confirmation.calibrate import Tested
from stillwatch.detect.confirmation.confirm import Judged
from stillwatch.detect.confirmation.principals import Principals, Registry
from stillwatch.detect.confirmation.timing import measure_timing
from stillwatch.detect.discovery.blocks import Block
from stillwatch.detect.discovery.shared import is_shared, shared_traits
from stillwatch.detect.discovery.skeletons import describe_companions, describe_wording
from stillwatch.detect.discovery.traits import Families
from stillwatch.detect.evidence.doubts import Seen, weigh_doubts
from stillwatch.detect.evidence.exhibits import Null, Trait, Traits, Value
from stillwatch.detect.evidence.scenes import Group, timeline_of, value_of, web_of
from stillwatch.detect.facts import Facts
from stillwatch.detect.findings import Evidence
from stillwatch.detect.members.companions import Companions
from stillwatch.detect.profiles.profile import Ints, Profiles
from stillwatch.detect.profiles.tape import Taken

#: A test of timing is told when its p-value, times the tests made, is at most this.
_TELLING = 0.01


class Background(NamedTuple):
    """What a campaign is described against; every part may be missing.

    Attributes:
        reference: profiles of honest accounts.
        facts: what the accounts table knows of the log's accounts.
        registry: who stands behind accounts.
        more: further evidence, from tests that are not made here.
        most_ratio: limit of `DetectConfig`.
    """

    reference: Profiles | None = None
    facts: Facts | None = None
    registry: Registry | None = None
    more: tuple[Evidence, ...] = ()
    most_ratio: float = 2.5


def skeleton_name(families: Families, block: Block) -> str:
    """Name a block after the wording it shares.

    Args:
        families: of the log.
        block: the block.

    Returns:
        Such as `web-3f9a1c22`: the smallest shingle of its largest family.
    """
    shingles = families.shingles.take(block.families[:1]).values
    if not len(shingles):
        return f"web-{xxhash.xxh32_intdigest(block.accounts.tobytes()):08x}"
    return f"web-{int(shingles.min()) >> (8 * shingles.dtype.itemsize - 32):08x}"


def describe(
    profiles: Profiles,
    families: Families,
    judged: Judged,
    *,
    companions: Companions,
    given: bool,
    background: Background | None = None,
) -> tuple[Evidence, ...]:
    """Say why a block is a campaign.

    Args:
        profiles: the log.
        families: its families of rare wording.
        judged: the block and its tests.
        companions: accounts that joined without sharing the wording.
        given: whether a reference was given; else the log's own bulk stood in.
        background: what it is described against.

    Returns:
        Evidence, the strongest reasons first, the innocent explanation last.
    """
    background = background or Background()
    block = judged.block
    found = [describe_wording(profiles, families, block, given=given)]
    null = None if judged.tested is None else _null(judged.tested, background.most_ratio)
    if judged.tested is not None and null is not None:
        found.append(_interchangeable(judged.tested, null))
    found.append(_revisits(judged))
    if len(companions.accounts):
        found.append(describe_companions(profiles, companions))
    rows = np.union1d(block.rows, companions.rows)
    members = np.union1d(block.accounts, companions.accounts)
    traits = shared_traits(
        profiles, rows, members, reference=background.reference, facts=background.facts
    )
    owners = None if background.registry is None else background.registry.describe(members)
    found += [] if owners is None else [_owners(owners)]
    found += [_traits(traits), _timing(profiles, members, background.facts), *background.more]
    found.append(_web(profiles, families, Group(members, rows, block.families), traits=traits))
    found += [_timeline(profiles, rows), _value(value_of(profiles, rows))]
    found.append(_doubts(_seen(judged, len(members), null, traits=traits, owners=owners)))
    return tuple(found)


def _seen(
    judged: Judged, n_members: int, null: Null | None, *, traits: Traits, owners: Principals | None
) -> Seen:
    return Seen(
        members=n_members,
        parties=judged.block.n_principals,
        revisited=judged.revisited,
        null=null,
        p_value=judged.p_value,
        traits=traits,
        owners=owners,
    )


def _interchangeable(tested: Tested, null: Null) -> Evidence:
    middle = float(np.median(tested.null))
    text = (
        f"Members are interchangeable: apart from the shared wording, a rare word returns to the "
        f"same account {tested.whole.ratio:.1f} times as often as chance gives. Compared at "
        f"{tested.scale.accounts} accounts, the upper bound is {tested.upper:.1f}; the lowest of "
        f"{len(tested.null)} honest groups has {tested.null[0]:.1f}, the middle one {middle:.1f} "
        f"(p = {tested.p_value:.2g}; by rank alone {tested.rank_p_value:.2g})."
    )
    return Evidence(
        kind="interchangeable members",
        text=text,
        figures={
            "ratio": tested.ratio,
            "upper": tested.upper,
            "honest_middle": middle,
            "honest_lowest": float(tested.null[0]),
            "p_value": tested.p_value,
            "rank_p_value": tested.rank_p_value,
        },
        exhibit=null,
    )


def _null(tested: Tested, most_ratio: float) -> Null:
    return Null(
        found=tested.upper,
        honest=tuple(round(float(score), 4) for score in tested.null),
        accounts=tested.scale.accounts,
        questions=tested.scale.questions,
        limit=most_ratio,
    )


def _revisits(judged: Judged) -> Evidence:
    text = (
        f"A queue hands an item to one worker or a few: {judged.revisited:.1%} of "
        f"{len(judged.block.rows)} "
        "questions go round among many members."
    )
    return Evidence(kind="nothing asked twice", text=text, figures={"revisited": judged.revisited})


def _traits(traits: Traits) -> Evidence:
    shared = [trait for trait in traits.items if is_shared(trait)]
    told = "; ".join(trait_sentence(trait) for trait in shared)
    apart = [trait.kind for trait in traits.items if not is_shared(trait)]
    text = f"Besides the wording: {told}." if told else "Besides the wording nothing rare is shared"
    if not told:
        text += f" ({', '.join(apart)} are as spread as others')." if apart else "."
    if traits.missing:
        text += f" Not known: {', '.join(traits.missing)}."
    return Evidence(
        kind="shared traits",
        text=text,
        figures={trait.kind: float(trait.top) for trait in shared},
        exhibit=traits,
    )


def trait_sentence(trait: Trait) -> str:
    """Say who has a trait.

    Args:
        trait: the trait.

    Returns:
        A clause without a full stop.
    """
    named = f" ({trait.label})" if trait.label else ""
    text = f"one {trait.kind}{named} at {trait.top} of {trait.members} members"
    text += f" and {trait.others} of {trait.others_known} other accounts"
    if trait.reference_known:
        text += f", {trait.reference} of {trait.reference_known} in the reference"
    return text


def _web(profiles: Profiles, families: Families, group: Group, *, traits: Traits) -> Evidence:
    web = web_of(profiles, families, group, traits=traits)
    return Evidence(
        kind="web",
        text=f"{web.members} members; {web.others} other accounts have something of what they "
        "share.",
        figures={"members": float(web.members), "others": float(web.others)},
        exhibit=web,
    )


def _timeline(profiles: Profiles, rows: Ints) -> Evidence:
    digests = profiles.digests
    line = timeline_of(digests, rows)
    if line is None:
        return Evidence(kind="timeline", text="The log does not tell when the questions came.")
    times = digests.started_at[rows]
    days = np.unique(np.floor(times / 86_400.0))
    return Evidence(
        kind="timeline",
        text=f"{_date(times.min())} to {_date(times.max())}: {len(rows)} questions on "
        f"{len(days)} days; at most {max(line.active)} members active in "
        f"{_width(line.step_s)}.",
        figures={"days": float(len(days)), "most_active": float(max(line.active))},
        exhibit=line,
    )


def recount(
    evidence: tuple[Evidence, ...], taken: Taken, *, log_tokens: int
) -> tuple[Evidence, ...]:
    """Put the exact sum of all exchanges of a campaign in the place of what was inferred.

    Args:
        evidence: of the campaign.
        taken: what all of its exchanges add up to.
        log_tokens: output tokens of the whole log (count).

    Returns:
        The evidence, with the value taken told anew.
    """
    return tuple(
        _value(
            msgspec.structs.replace(
                one.exhibit,
                exchanges=taken.exchanges,
                output_tokens=taken.output_tokens,
                input_tokens=taken.input_tokens or None,
                is_exact=True,
                share_of_log=min(taken.output_tokens / max(log_tokens, 1), 1.0),
            )
        )
        if isinstance(one.exhibit, Value)
        else one
        for one in evidence
    )


def _value(value: Value) -> Evidence:
    text = f"{value.output_tokens:,} output tokens in answer to {value.exchanges:,} questions"
    text += f", {value.share_of_log:.1%} of all that the log gave out"
    text += "." if value.is_exact else f"; inferred from the {value.kept:,} that were kept."
    return Evidence(
        kind="value taken",
        text=text,
        figures={
            "output_tokens": float(value.output_tokens),
            "exchanges": float(value.exchanges),
            "share_of_log": value.share_of_log,
        },
        exhibit=value,
    )


def _timing(profiles: Profiles, members: Ints, facts: Facts | None) -> Evidence:
    tests = measure_timing(
        activity_of(profiles, members),
        background_of(profiles),
        lives=lives_of(profiles, facts, members),
    )
    made = [test for test in tests if test.p_value is not None]
    telling = [test for test in made if (test.p_value or 0.0) * len(made) <= _TELLING]
    if telling:
        text = " ".join(test.text for test in telling)
    else:
        text = f"{len(made)} tests of joint timing tell nothing."
    return Evidence(
        kind="timing",
        text=text,
        figures={test.name: test.p_value for test in made if test.p_value is not None},
    )


def _owners(owners: Principals) -> Evidence:
    return Evidence(
        kind="who stands behind them",
        text=owners.text,
        figures={"declared": float(owners.n_declared), "linked": float(owners.n_linked)},
    )


def _doubts(seen: Seen) -> Evidence:
    doubts = weigh_doubts(seen)
    first = doubts.items[0]
    return Evidence(
        kind="innocent explanation",
        text=f"{first.explanation} {first.settle}",
        exhibit=doubts,
    )


def _width(step_s: float) -> str:
    names = {3_600.0: "an hour", 21_600.0: "six hours", 86_400.0: "a day", 604_800.0: "a week"}
    return names.get(step_s, "a month")


def _date(time_s: float) -> str:
    if not math.isfinite(time_s):
        return "?"
    return datetime.fromtimestamp(float(time_s), UTC).strftime("%Y-%m-%d")
