"""The radioactivity test: did a suspect learn from answers that carry a mark?

A student that is trained on marked answers picks up some of the mark's bias, and its own outputs
then hold more green windows than gamma. The test counts distinct windows (`watermark`), computes
the exact binomial p-value, and shows next to it what the same pipeline says for hundreds of decoy
keys of the same schedule: if the pipeline were biased, the decoys would show it.

A p-value here means: were the suspect's text written without any knowledge of the key, so many
green windows would be this rare. Fix the questions, the number of outputs and the keys before the
first question is asked; looking after every batch and stopping at the best is not covered.

Source: Sander et al. 2024 (arXiv 2402.14904), closed model, unsupervised; the implementation, the
decoy keys and the choice of windows are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from stillwatch.errors import reject
from stillwatch.stats.evalues import bernoulli_log10_e
from stillwatch.stats.multiple import holm_log10
from stillwatch.stats.pvalues import ks_uniform
from stillwatch.trace.verdicts.finding import Finding
from stillwatch.trace.watermark import (
    GreenListMark,
    Ids,
    TokenSequence,
    WindowCounts,
    Windows,
    campaign_mark,
    distinct_windows,
)

#: What a single accusation needs, fixed beforehand (../docs/radioactivity.md): "proved".
PROVED = 1e-6
#: Windows to keep at least: chosen on students of seeds 1 to 3 (docs/radioactivity.md, "Power").
N_REPEATED = 1_000


@dataclass(frozen=True)
class Radioactivity:
    """What the test of one suspect against one key found.

    Attributes:
        key_id: the mark that was looked for.
        n_windows: distinct windows scored (count).
        n_green: green ones among them (count).
        green_rate: their ratio, 0..1; NaN when nothing was scored.
        gamma: the green rate of text that is independent of the key.
        p_value: exact binomial tail; small = the suspect knows the key's bias.
        log10_p: its decimal logarithm, finite where the double underflows.
        decoy_rank_p: (1 + decoys at or below p_value) / (1 + decoys): needs no model of the key
            schedule, but can never be below 1 / (1 + decoys).
        decoy_p_values: the same test with keys that nobody used, shape (n_decoys,).
        ks_p_value_of_decoys: test that the decoys are uniform; small = the pipeline is biased and
            `p_value` is not to be believed.
    """

    key_id: str
    n_windows: int
    n_green: int
    green_rate: float
    gamma: float
    p_value: float
    log10_p: float
    decoy_rank_p: float
    decoy_p_values: npt.NDArray[np.float64]
    ks_p_value_of_decoys: float

    def finding(self, *, needed: int | None = None) -> Finding:
        """Describe the result as one plain record.

        Args:
            needed: windows that were planned.

        Returns:
            The finding; its randomisation is the key.
        """
        return Finding(
            test="radioactivity-closed",
            statistic=self.green_rate if self.n_windows else 0.0,
            p_value=self.p_value,
            log10_p=self.log10_p,
            e_log10=float(bernoulli_log10_e(self.n_green, self.n_windows, self.gamma)),
            randomisation=f"key:{self.key_id}",
            n=self.n_windows,
            needed=needed,
            null="the suspect's text does not depend on the key",
            details={
                "n_green": self.n_green,
                "gamma": self.gamma,
                "decoy_rank_p": self.decoy_rank_p,
                "n_decoys": len(self.decoy_p_values),
                "ks_p_value_of_decoys": self.ks_p_value_of_decoys,
            },
        )


class CampaignFinding(NamedTuple):
    """The test of one suspect against one campaign's key.

    Attributes:
        campaign_id: whose key it is.
        key_id: the key's public name.
        counts: windows and green ones.
        p_value: exact, before the correction.
        log10_p: its decimal logarithm.
        adjusted_log10_p: after Holm's correction for all keys tried.
    """

    campaign_id: str
    key_id: str
    counts: WindowCounts
    p_value: float
    log10_p: float
    adjusted_log10_p: float

    @property
    def adjusted_p_value(self) -> float:
        """Chance of at least one false name at this level among all keys tried."""
        return float(10.0**self.adjusted_log10_p)


def test_radioactivity(
    sequences: Iterable[TokenSequence],
    mark: GreenListMark,
    *,
    vocab_size: int,
    rng: np.random.Generator,
    n_decoys: int = 999,  # noqa: PT028 - a statistical test, not one of pytest's
    n_repeated: int | None = N_REPEATED,  # noqa: PT028 - as above
) -> Radioactivity:
    """Test whether a suspect's texts know a mark.

    Args:
        sequences: every text the suspect gave to the questions fixed beforehand, as token ids of
            the marking model's tokenizer.
        mark: the mark whose key was used to answer the campaign.
        vocab_size: size of that tokenizer's vocabulary.
        rng: draws the decoys' master key.
        n_decoys: decoy keys to try (count, at least 1).
        n_repeated: score only the most repeated windows, at least so many; None for all.

    Returns:
        The finding; not a verdict: `docs/radioactivity.md` says what else may explain it.
    """
    if n_decoys < 1:
        reject("test_radioactivity", "n_decoys", "at least 1", got=n_decoys)
    windows = _scored(sequences, mark, (vocab_size, n_repeated))
    counts = mark.count(windows)
    p_value, log10_p = counts.p_value()
    decoys = decoy_marks(mark, n_decoys, rng=rng)
    decoy_greens = np.array([decoy.count(windows).n_green for decoy in decoys], dtype=np.int64)
    as_extreme = int(np.count_nonzero(decoy_greens >= counts.n_green))
    return Radioactivity(
        key_id=mark.key_id,
        n_windows=counts.n_windows,
        n_green=counts.n_green,
        green_rate=counts.green_rate,
        gamma=mark.gamma,
        p_value=p_value,
        log10_p=log10_p,
        decoy_rank_p=(1 + as_extreme) / (1 + n_decoys),
        decoy_p_values=_upper_tails(decoy_greens, counts.n_windows, mark.gamma),
        ks_p_value_of_decoys=_uniformity(decoy_greens, counts, rng),
    )


def decoy_marks(
    mark: GreenListMark, n: int, *, rng: np.random.Generator
) -> tuple[GreenListMark, ...]:
    """Derive marks that nobody used, by the schedule of the real ones, from a random master key.

    Args:
        mark: whose gamma, delta and width the decoys share.
        n: how many (count).
        rng: draws the master key.

    Returns:
        The decoys.
    """
    master_key = rng.bytes(32)
    derived = (
        campaign_mark(master_key, f"decoy-{i}", gamma=mark.gamma, delta=mark.delta)
        for i in range(n)
    )
    return tuple(
        GreenListMark(decoy.key, decoy.key_id, mark.gamma, mark.delta, mark.context_width)
        for decoy in derived
    )


def rank_campaigns(
    sequences: Iterable[TokenSequence],
    marks: Mapping[str, GreenListMark],
    *,
    vocab_size: int,
    n_repeated: int | None = N_REPEATED,
) -> list[CampaignFinding]:
    """Test a suspect's texts against every campaign's key, corrected by Holm for all of them.

    Args:
        sequences: as for `test_radioactivity`.
        marks: campaign id -> its mark; every key that is looked at must be in here.
        vocab_size: size of the vocabulary.
        n_repeated: as for `test_radioactivity`.

    Returns:
        One finding a campaign, most suspicious first.
    """
    if not marks:
        return []
    texts = list(sequences)
    found: list[tuple[str, GreenListMark, WindowCounts]] = []
    by_width: dict[int, Windows] = {}
    for campaign_id, mark in marks.items():
        if mark.context_width not in by_width:
            by_width[mark.context_width] = _scored(texts, mark, (vocab_size, n_repeated))
        found.append((campaign_id, mark, mark.count(by_width[mark.context_width])))
    p_values = [counts.p_value() for _, _, counts in found]
    adjusted = holm_log10([p.log10_p for p in p_values])
    findings = [
        CampaignFinding(campaign_id, mark.key_id, counts, p.p_value, p.log10_p, float(log10_p))
        for (campaign_id, mark, counts), p, log10_p in zip(found, p_values, adjusted, strict=True)
    ]
    return sorted(findings, key=lambda finding: (finding.log10_p, finding.campaign_id))


def name_campaign(
    sequences: Iterable[TokenSequence],
    marks: Mapping[str, GreenListMark],
    *,
    vocab_size: int,
    alpha: float = PROVED,
    n_repeated: int | None = N_REPEATED,
) -> CampaignFinding | None:
    """Name the campaign whose marked answers the suspect learned from, if one stands out.

    Args:
        sequences: as for `test_radioactivity`.
        marks: campaign id -> its mark.
        vocab_size: size of the vocabulary.
        alpha: chance of naming any campaign falsely, fixed beforehand.
        n_repeated: as for `test_radioactivity`.

    Returns:
        The most suspicious campaign when its adjusted p-value is at most alpha, else None.
    """
    findings = rank_campaigns(sequences, marks, vocab_size=vocab_size, n_repeated=n_repeated)
    if findings and findings[0].adjusted_log10_p <= math.log10(alpha):
        return findings[0]
    return None


def windows_needed(
    green_rate: float, *, gamma: float = 0.25, alpha: float = PROVED, power: float = 0.9
) -> int:
    """Plan how many distinct windows a test needs (normal approximation).

    Args:
        green_rate: the rate that the suspect is expected to show, above gamma.
        gamma: the rate without the mark.
        alpha: p-value to reach.
        power: chance of reaching it.

    Returns:
        Distinct windows (count).

    Example:
        >>> windows_needed(0.27, alpha=1e-5)
        14590
    """
    if not gamma < green_rate < 1:
        reject("windows_needed", "green_rate", f"between gamma ({gamma}) and 1", got=green_rate)
    spread = -float(special.ndtri(alpha)) * math.sqrt(gamma * (1 - gamma))
    spread += float(special.ndtri(power)) * math.sqrt(green_rate * (1 - green_rate))
    return math.ceil((spread / (green_rate - gamma)) ** 2)


def _scored(
    sequences: Iterable[TokenSequence],
    mark: GreenListMark,
    scope: tuple[int, int | None],
) -> Windows:
    vocab_size, n_repeated = scope
    if n_repeated is not None and n_repeated < 1:
        reject("test_radioactivity", "n_repeated", "at least 1, or None", got=n_repeated)
    windows = distinct_windows(sequences, vocab_size=vocab_size, context_width=mark.context_width)
    return windows if n_repeated is None else windows.most_repeated(n_repeated)


def _upper_tails(greens: Ids, total: int, gamma: float) -> npt.NDArray[np.float64]:
    return np.asarray(stats.binom.sf(greens - 1, total, gamma), dtype=np.float64)


def _uniformity(greens: Ids, counts: WindowCounts, rng: np.random.Generator) -> float:
    """Test the decoys' p-values, smoothed within each count so that they are exactly uniform."""
    above = stats.binom.sf(greens, counts.n_windows, counts.gamma)
    level = stats.binom.pmf(greens, counts.n_windows, counts.gamma)
    return ks_uniform(np.clip(above + rng.random(len(greens)) * level, 0.0, 1.0))
