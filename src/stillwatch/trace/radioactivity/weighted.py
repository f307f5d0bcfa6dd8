"""Radioactivity with entropy weights: closed (what a suspect wrote) or open (its own chances).

Both start from an `Excess` (`likelihood`): how often each window was written, or what chance the
suspect gave it, beside what the unmarked model gives at the same places. What any speaker of the
language would do cancels; what remains is the suspect's own taste, and the test asks whether this
taste agrees with the key. Under the null "the suspect does not depend on the key" every weight is
fixed and every colour is a coin of the key's, so the tail is exact.

Read a suspect's own chances on ordinary text or on its own answers, never on answers that carry the
mark: their windows lean green by construction, and any good speaker would be accused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from stillwatch.errors import reject
from stillwatch.stats.evalues import log10_e_from_p
from stillwatch.stats.multiple import holm_log10
from stillwatch.stats.pvalues import PValue, ks_uniform
from stillwatch.trace.marks.green import GreenMark, as_mark
from stillwatch.trace.marks.protocol import Mark
from stillwatch.trace.radioactivity.weights import (
    Excess,
    WeightedNull,
    entropy_weights,
    whole_weights,
)
from stillwatch.trace.radioactivity.windows import Ids, Windows
from stillwatch.trace.verdicts.finding import Finding
from stillwatch.trace.watermark import GreenListMark

#: Spread of a suspect's habits around the marked model's, in nats: chosen on students of seeds 1
#: and 2 (docs/radioactivity.md, "Entropy weights"); the weights may be anything that is no key's.
SPREAD = 0.3
#: Above this a double from the untilted sum is right to six digits.
_FAR = 1e-7
NULL = "what the suspect writes does not depend on the key"


@dataclass(frozen=True)
class WeightedWindows:
    """Windows with whole weights, ready for any key.

    Attributes:
        windows: those whose weight is not 0.
        weights: shape (n,), int64, within -63..63.
    """

    windows: Windows
    weights: Ids


@dataclass(frozen=True)
class WeightedRadioactivity:
    """What the weighted test of one suspect against one key found.

    Attributes:
        key_id: the mark that was looked for.
        n_windows: windows with a weight (count).
        statistic: weights of the green windows, added up.
        standard_score: the statistic in standard deviations above its mean under the null; read
            off the p-value where the scheme is not a green list.
        p_value: exact tail; small = the suspect's taste agrees with the key.
        log10_p: its decimal logarithm.
        e_log10: log10 of an e-value for the same null.
        decoy_rank_p: (1 + decoys at or above the statistic) / (1 + decoys).
        decoy_p_values: the same test with keys that nobody used, shape (n_decoys,).
        ks_p_value_of_decoys: test that the decoys are uniform; small = the windows are not
            independent under a key, and `p_value` is not to be believed.
    """

    key_id: str
    n_windows: int
    statistic: float
    standard_score: float
    p_value: float
    log10_p: float
    e_log10: float
    decoy_rank_p: float
    decoy_p_values: npt.NDArray[np.float64]
    ks_p_value_of_decoys: float

    def finding(
        self, test: str = "radioactivity-weighted", *, needed: int | None = None
    ) -> Finding:
        """Describe the result as one plain record.

        Args:
            test: the name that the verdict prints.
            needed: windows that were planned.

        Returns:
            The finding; its randomisation is the key.
        """
        return Finding(
            test=test,
            statistic=self.standard_score,
            p_value=self.p_value,
            log10_p=self.log10_p,
            e_log10=self.e_log10,
            randomisation=f"key:{self.key_id}",
            n=self.n_windows,
            needed=needed,
            null=NULL,
            details={
                "decoy_rank_p": self.decoy_rank_p,
                "n_decoys": len(self.decoy_p_values),
                "ks_p_value_of_decoys": self.ks_p_value_of_decoys,
            },
        )


@dataclass(frozen=True)
class WeightedCampaign:
    """The weighted test of one suspect against one campaign's key.

    Attributes:
        campaign_id: whose key it is.
        key_id: the key's public name.
        log10_p: exact, before the correction.
        adjusted_log10_p: after Holm's correction for all keys tried.
    """

    campaign_id: str
    key_id: str
    log10_p: float
    adjusted_log10_p: float


def weigh_windows(excess: Excess, *, spread: float | None = SPREAD) -> WeightedWindows:
    """Give each window its whole weight; the key has no part in it.

    Args:
        excess: from `written_excess` (closed) or `read_excess` (open).
        spread: as for `entropy_weights`; None estimates it.

    Returns:
        Windows whose weight is not 0.
    """
    weights = whole_weights(entropy_weights(excess, spread=spread))
    kept = weights != 0
    counts = np.ones(int(kept.sum()), dtype=np.int64)
    windows = Windows(excess.context_ids[kept], excess.token_ids[kept], counts)
    return WeightedWindows(windows, weights[kept])


def test_weighted(
    weighed: WeightedWindows,
    mark: Mark | GreenListMark,
    *,
    vocab_size: int,
    rng: np.random.Generator,
    n_decoys: int = 999,  # noqa: PT028 - a statistical test, not one of pytest's
) -> WeightedRadioactivity:
    """Test whether a suspect's taste agrees with a key.

    Args:
        weighed: from `weigh_windows`, of this mark's context width.
        mark: a green list takes part with all weights, for and against; another scheme with the
            weights above 0 only, by its own `score`.
        vocab_size: size of the marking tokenizer's vocabulary.
        rng: draws the decoys' keys.
        n_decoys: decoy keys to try (count, at least 1).

    Returns:
        The finding; not a verdict.
    """
    if n_decoys < 1:
        reject("test_weighted", "n_decoys", "at least 1", got=n_decoys)
    scorer = _Scorer(weighed, as_mark(mark), vocab_size)
    real = scorer.mark
    statistic = scorer.statistic(real)
    tail = scorer.tail(statistic)
    decoys = np.array([scorer.statistic(real.with_key(rng.bytes(32))) for _ in range(n_decoys)])
    decoy_p_values = scorer.tails(decoys)
    return WeightedRadioactivity(
        key_id=real.key_id,
        n_windows=len(weighed.weights),
        statistic=statistic,
        standard_score=scorer.standard_score(statistic),
        p_value=tail.p_value,
        log10_p=tail.log10_p,
        e_log10=scorer.e_log10(statistic, tail),
        decoy_rank_p=(1 + int(np.count_nonzero(decoys >= statistic))) / (1 + n_decoys),
        decoy_p_values=decoy_p_values,
        ks_p_value_of_decoys=ks_uniform(decoy_p_values),
    )


def rank_weighted(
    weighed: WeightedWindows,
    marks: Mapping[str, Mark | GreenListMark],
    *,
    vocab_size: int,
) -> list[WeightedCampaign]:
    """Test one suspect against every campaign's key, corrected by Holm for all of them.

    Args:
        weighed: from `weigh_windows`; all marks have its context width.
        marks: campaign id -> its mark; every key that is looked at must be in here.
        vocab_size: size of the vocabulary.

    Returns:
        One finding a campaign, most suspicious first.
    """
    if not marks:
        return []
    scorer: _Scorer | None = None
    found: list[tuple[str, str, PValue]] = []
    for campaign_id, given in marks.items():
        mark = as_mark(given)
        if scorer is None or not scorer.shares_null(mark):
            scorer = _Scorer(weighed, mark, vocab_size)
        found.append((campaign_id, mark.key_id, scorer.quick_tail(scorer.statistic(mark))))
    adjusted = holm_log10([tail.log10_p for _, _, tail in found])
    findings = [
        WeightedCampaign(campaign_id, key_id, tail.log10_p, float(log10_p))
        for (campaign_id, key_id, tail), log10_p in zip(found, adjusted, strict=True)
    ]
    return sorted(findings, key=lambda finding: (finding.log10_p, finding.campaign_id))


def name_weighted(
    ranked: list[WeightedCampaign], *, alpha: float = 1e-6
) -> WeightedCampaign | None:
    """Name the campaign whose marked answers the suspect learned from, if one stands out.

    Args:
        ranked: from `rank_weighted`.
        alpha: chance of naming any campaign falsely, fixed beforehand.

    Returns:
        The first of them when its adjusted p-value is at most alpha, else None.
    """
    if ranked and ranked[0].adjusted_log10_p <= math.log10(alpha):
        return ranked[0]
    return None


class _Scorer:
    """Sums of one suspect's weights under any key of one scheme."""

    def __init__(self, weighed: WeightedWindows, mark: Mark, vocab_size: int) -> None:
        width = weighed.windows.context_ids.shape[1]
        if width != mark.context_width:
            rule = f"of the mark's context width, {mark.context_width}"
            reject("test_weighted", "weighed", rule, got=width)
        self.mark, self._weighed, self._vocab_size = mark, weighed, vocab_size
        self._null: WeightedNull | None = None
        if isinstance(mark, GreenMark):
            self._null = WeightedNull.of(weighed.weights, mark.null.mean)
        self._positive = np.maximum(weighed.weights, 0)
        self._tails: dict[float, PValue] = {}

    def statistic(self, mark: Mark) -> float:
        if self._null is None:
            evidence = mark.score(self._weighed.windows, self._vocab_size, weights=self._positive)
            self._tails[evidence.statistic] = PValue(evidence.p_value, evidence.log10_p)
            return evidence.statistic
        return float(self._weighed.weights @ mark.values(self._weighed.windows, self._vocab_size))

    def tail(self, statistic: float) -> PValue:
        if self._null is None:
            return self._tails[statistic]
        return self._null.p_value(round(statistic))

    def shares_null(self, mark: Mark) -> bool:
        """Whether another key's sum has the same null, so that it need not be made again."""
        return (
            self._null is not None and isinstance(mark, GreenMark) and mark.null == self.mark.null
        )

    def quick_tail(self, statistic: float) -> PValue:
        """Give the tail, exact in the far tail and read off one table elsewhere."""
        if self._null is not None:
            quick = float(self.tails(np.array([statistic]))[0])
            if quick > _FAR:
                return PValue(quick, math.log10(quick))
        return self.tail(statistic)

    def tails(self, statistics: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self._null is None:
            return np.array([self._tails[float(one)].p_value for one in statistics])
        return self._null.p_values(np.rint(statistics))

    def standard_score(self, statistic: float) -> float:
        if self._null is None:
            return -float(special.ndtri(max(self._tails[statistic].p_value, 1e-300)))
        return (statistic - self._null.mean) / self._null.sd if self._null.values.size else 0.0

    def e_log10(self, statistic: float, tail: PValue) -> float:
        if self._null is not None:
            return self._null.log10_e(round(statistic))
        return log10_e_from_p(max(tail.p_value, 1e-300))
