"""The withheld split: does the suspect know what we served better than what we kept back?

Membership tests usually compare texts from before and after some date, and so measure that the
texts differ. Here the provider makes more answers than it serves and draws by a secret key which
ones go out. Served and withheld answers then differ in nothing but our draw, and a suspect whose
likelihoods favour the served ones knows the draw. Two designs:

- `split`: every answer is served with the same chance (a half, say), else withheld for good;
- `pair`: of two renderings of one answer one is served; each is compared with its own twin, which
  takes the difficulty of the text out of the comparison.

The p-value is exact for the draw, whatever the likelihoods look like: the scores are fixed first,
rounded to whole units, and the distribution of their sum over all draws is computed (`lattice`).

Source: dataset inference (Maini et al. 2024, arXiv 2406.06443) for the question, STAMP (arXiv
2504.13416) for the pairs; the draw, the rounded scores and the exact tail are ours.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special, stats

from stillwatch.errors import reject
from stillwatch.record.exchange import canonical_json
from stillwatch.trace.radioactivity.lattice import sum_log10_e, sum_survival, sum_upper_tail
from stillwatch.trace.verdicts.finding import Finding

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_DRAW = b"stillwatch withheld draw 1\0"
_NONCE = b"stillwatch withheld nonce 1\0"
_COMMITMENT = b"stillwatch withheld commitment 1\0"
#: The widest score is this many units, fewer where the sum would get too long to compute.
_UNITS = 64
_LONGEST = 10_000_000
_NULLS = {
    "split": "the suspect's likelihoods do not depend on which answers we drew to be served",
    "pair": "the suspect's likelihoods do not depend on which rendering we drew to be served",
}


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which answers are served: secret until the suspect's likelihoods are in.

    Attributes:
        item_ids: answers (or pairs of renderings), in a fixed order.
        served: True = this answer is served; in pairs: True = the first rendering is.
        share: chance with which each was drawn to be served.
        design: `split` or `pair`.
        nonce: hex; makes the commitment impossible to search.
    """

    item_ids: tuple[str, ...]
    served: tuple[bool, ...]
    share: float
    design: Literal["split", "pair"]
    nonce: str

    def __post_init__(self) -> None:
        """Refuse a split that does not fit its items.

        Raises:
            InvalidInputError: names repeat, a draw is missing, or the share is out of range.
        """
        if len(set(self.item_ids)) < len(self.item_ids):
            reject("Split", "item_ids", "all different", got=len(self.item_ids))
        if len(self.served) != len(self.item_ids):
            rule = f"one draw an item ({len(self.item_ids)})"
            reject("Split", "served", rule, got=len(self.served))
        if not 0 < self.share < 1 or (self.design == "pair" and self.share != 0.5):
            reject("Split", "share", "between 0 and 1, and 0.5 for pairs", got=self.share)

    @property
    def commitment(self) -> str:
        """SHA-256 over everything above: publish or time-stamp it before anything is served."""
        return hashlib.sha256(_COMMITMENT + canonical_json(self).encode()).hexdigest()

    @property
    def randomisation(self) -> str:
        """How findings name this draw."""
        return f"withheld:{self.commitment[:16]}"


class WithheldPlan(NamedTuple):
    """A planned test of a withheld split.

    Attributes:
        n: answers to draw about, served and withheld together; or pairs (count).
        effect: how much likelier a served answer is than a withheld one, in standard deviations of
            the scores; for pairs: mean of served minus withheld, in standard deviations of that.
        alpha: p-value to reach.
        power: chance of reaching it, normal approximation.
    """

    n: int
    effect: float
    alpha: float
    power: float


def draw_split(
    item_ids: Sequence[str],
    *,
    key: bytes,
    share: float = 0.5,
    design: Literal["split", "pair"] = "split",
) -> Split:
    """Draw which answers are served; every one by its own toss of a secret coin.

    Args:
        item_ids: answers, all made before the draw; or pairs of renderings.
        key: a secret of this split alone, 16 random bytes or more.
        share: chance of being served, for `split`.
        design: `split`, or `pair`, where one of two renderings is served.

    Returns:
        The split; the same arguments always give the same one.

    Raises:
        InvalidInputError: the key is too short, names repeat, or the share is out of range.
    """
    if len(key) < 16:
        reject("draw_split", "key", "at least 16 bytes long", got=f"{len(key)} bytes")
    names = canonical_json(list(item_ids)).encode()
    served = _coins(hmac.digest(key, _DRAW + names, "sha256"), len(item_ids), share)
    nonce = hmac.digest(key, _NONCE + names, "sha256").hex()
    return Split(tuple(item_ids), tuple(served.tolist()), share, design, nonce)


def prove_withheld(
    split: Split,
    scores: Mapping[str, float | tuple[float, float]],
    *,
    control: Mapping[str, float | tuple[float, float]] | None = None,
    plan: WithheldPlan | None = None,
) -> Finding:
    """Test whether a suspect scores served answers above withheld ones.

    Args:
        split: what was drawn and committed.
        scores: item id -> the suspect's mean log-likelihood per token of the answer, higher =
            better known; for pairs: of the first and of the second rendering. Items without one are
            left out; they must not be missing because of the draw.
        control: the same from a model that never saw any of it; subtracted, which removes the
            difficulty of the text.
        plan: what was planned, for `needed`.

    Returns:
        The finding: p exact for our draw, given the scores.

    Raises:
        InvalidInputError: a score is not a number, or has the wrong shape for the design.
    """
    values, z = _values(split, scores, control)
    n_dropped = len(split.item_ids) - len(values)
    units = _units(values, split.design)
    weights, chances = _folded(units, split.share)
    total = int(weights @ np.where(units >= 0, z, 1 - z))
    found = sum_upper_tail(weights, chances, at_least=total)
    spread = math.sqrt(float(units @ units) * split.share * (1 - split.share))
    notes = [] if not n_dropped else [f"{n_dropped} of {len(split.item_ids)} items have no score"]
    if plan is None:
        notes.append("no plan was given: the power is not known")
    elif len(values) < plan.n:
        notes.append(f"{len(values)} items scored, {plan.n} planned: the power is below the plan's")
    return Finding(
        test=f"withheld-{split.design}",
        statistic=(total - float(weights @ chances)) / spread if spread else 0.0,
        p_value=found.p_value,
        log10_p=found.log10_p,
        e_log10=sum_log10_e(weights, chances, seen=total),
        randomisation=split.randomisation,
        n=len(values),
        needed=plan.n if plan else None,
        null=_NULLS[split.design],
        notes=tuple(notes),
        details=_details(values, z, (split, control is not None)),
    )


def redrawn_log10_p(
    split: Split,
    scores: Mapping[str, float | tuple[float, float]],
    *,
    draws: int,
    rng: np.random.Generator,
) -> Floats:
    """Repeat the test with splits that nobody served: the audit of the whole pipeline.

    Args:
        split: whose items to draw again.
        scores: the suspect's.
        draws: how many (count).
        rng: makes the decoys' keys.

    Returns:
        log10 of each p-value, shape (draws,).

    Raises:
        InvalidInputError: as for `prove_withheld`.
    """
    values, _ = _values(split, scores, None)
    units = _units(values, split.design)
    weights, chances = _folded(units, split.share)
    survival = sum_survival(weights, chances)
    sums = [
        int(weights @ (_coins(rng.bytes(32), len(values), split.share) == (units >= 0)))
        for _ in range(draws)
    ]
    return np.asarray(np.log10(np.maximum(survival[sums], 1e-300)))


def _coins(seed: bytes, n: int, share: float) -> npt.NDArray[np.bool_]:
    """Toss n coins from a stream of SHAKE-256; the bias of one is below 2 ** -52."""
    stream = np.frombuffer(hashlib.shake_256(seed).digest(8 * n), dtype="<u8")
    return stream >> np.uint64(11) < np.uint64(int(share * 2.0**53))


def plan_withheld(
    effect: float,
    *,
    alpha: float = 1e-6,
    power: float = 0.9,
    share: float = 0.5,
    design: Literal["split", "pair"] = "split",
) -> WithheldPlan:
    """Plan how many answers to draw about.

    Args:
        effect: see `WithheldPlan`; measure it on a student of your own.
        alpha: p-value to reach.
        power: chance of reaching it.
        share: chance of being served, for `split`.
        design: `split` or `pair`.

    Returns:
        The plan.

    Raises:
        InvalidInputError: a number is out of range.

    Example:
        >>> plan_withheld(0.2).n
        3643
    """
    if not effect > 0:
        reject("plan_withheld", "effect", "above 0", got=effect)
    for name, value in (("alpha", alpha), ("power", power), ("share", share)):
        if not 0 < value < 1:
            reject("plan_withheld", name, "strictly between 0 and 1", got=value)
    needed = (-float(special.ndtri(alpha)) + float(special.ndtri(power))) / effect
    per_item = share * (1 - share) if design == "split" else 1.0
    return WithheldPlan(math.ceil(needed**2 / per_item), effect, alpha, power)


def _values(
    split: Split,
    scores: Mapping[str, float | tuple[float, float]],
    control: Mapping[str, float | tuple[float, float]] | None,
) -> tuple[Floats, Ints]:
    """Give one number an item (for pairs: first minus second) and the draws that belong to them."""
    values, drawn = [], []
    for item_id, served in zip(split.item_ids, split.served, strict=True):
        if item_id not in scores or (control is not None and item_id not in control):
            continue
        value = _number(scores[item_id], split.design, item_id)
        if control is not None:
            value -= _number(control[item_id], split.design, item_id)
        values.append(value)
        drawn.append(served)
    return np.array(values, dtype=np.float64), np.array(drawn, dtype=np.int64)


def _number(score: float | tuple[float, float], design: str, item_id: str) -> float:
    parts = np.asarray(score, dtype=np.float64)
    if parts.shape != (() if design == "split" else (2,)) or not np.isfinite(parts).all():
        rule = "a finite number" if design == "split" else "two finite numbers"
        reject("prove_withheld", f"scores[{item_id!r}]", rule, got=score)
    return float(parts) if design == "split" else float(parts[0] - parts[1])


def _units(values: Floats, design: str) -> Ints:
    """Turn scores into whole units around 0, without looking at the draw.

    Split: normal scores of the ranks, so that one odd text cannot decide. Pair: the difference,
    cut at three robust standard deviations.
    """
    n = len(values)
    if n == 0:
        return np.empty(0, dtype=np.int64)
    if design == "split":
        raw = special.ndtri((stats.rankdata(values) - 0.5) / n)
    else:
        scale = float(np.median(np.abs(values))) / 0.6745 or float(np.abs(values).max()) or 1.0
        raw = np.clip(values / scale, -3.0, 3.0)
    widest = float(np.abs(raw).max()) or 1.0
    units = min(_UNITS, max(_LONGEST // n, 1))
    return np.rint(raw / widest * units).astype(np.int64)


def _folded(units: Ints, share: float) -> tuple[Ints, Floats]:
    """Make all units positive: to withhold a badly known answer speaks as serving a known one."""
    return np.abs(units), np.where(units >= 0, share, 1.0 - share)


def _details(values: Floats, z: Ints, about: tuple[Split, bool]) -> dict[str, Any]:
    split, controlled = about
    served, kept = values[z == 1], values[z == 0]
    details: dict[str, Any] = {"share": split.share, "controlled": controlled}
    if split.design == "pair":
        gain = float(np.mean(np.where(z == 1, values, -values))) if values.size else None
        return details | {"mean_served_minus_withheld": gain}
    return details | {
        "served": len(served),
        "withheld": len(kept),
        "mean_served": float(served.mean()) if served.size else None,
        "mean_withheld": float(kept.mean()) if kept.size else None,
    }
