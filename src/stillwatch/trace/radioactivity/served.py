"""The supervised test: does a suspect know the very answers that were served?

The naive supervised test keeps the windows that the record holds and counts the green ones among
them. It accuses everybody: those windows were *made* green. This test conditions on each context
instead. At every place of a served answer, the marked model drew one token from chances that are
known to whoever runs it (mark, temperature and cut included). A suspect that never saw the answer
cannot favour the drawn token over the others that might have been drawn. So

    e = product over places of f(drawn token) / E[f(a token drawn again)]

has expectation 1 whatever f the suspect's behaviour suggests: an exact e-value, whose randomness is
the sampler's own. It needs no mark at all; with one, its randomness is independent of the key's, so
the two e-values may be multiplied. Any road by which the answers reached the suspect counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import special

from stillwatch.errors import reject
from stillwatch.stats.evalues import average_log10_e
from stillwatch.trace.marks.green import as_mark
from stillwatch.trace.marks.protocol import Mark
from stillwatch.trace.radioactivity.likelihood import NextChances
from stillwatch.trace.radioactivity.weights import Excess, Floats
from stillwatch.trace.radioactivity.windows import Ids, TokenSequence
from stillwatch.trace.verdicts.finding import Finding
from stillwatch.trace.watermark import GreenListMark

#: How strongly the suspect's taste is believed: the e-values of all are averaged, so that none has
#: to be chosen after looking.
BELIEFS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
#: Counts added to seen and expected before their ratio is taken (chosen on students 1 and 2).
_PRIOR = 0.5
_LN10 = math.log(10.0)
NULL = "the suspect does not depend on which tokens were drawn when the answers were served"


class ServedChances(NamedTuple):
    """One served answer with the chances that its tokens were drawn from.

    Attributes:
        token_ids: question and answer as the marked model read and drew them, shape (n,).
        places: where the drawn tokens stand, shape (m,).
        log_chances: natural log of the chances at each place, mark included, shape (m, V).
    """

    token_ids: Ids
    places: Ids
    log_chances: Floats


@dataclass
class ServedDraws:
    """A running test of one suspect against served answers.

    Attributes:
        beliefs: exponents on the suspect's taste.
        log_e: natural log of each belief's e-value so far, shape (n_beliefs,).
        n_places: tokens scored so far (count).
        gain: taste of the drawn tokens beyond its expectation, summed (nats).
        variance: of `gain` under the null, summed place by place.
    """

    beliefs: tuple[float, ...] = BELIEFS
    log_e: Floats = field(default_factory=lambda: np.zeros(len(BELIEFS)))
    n_places: int = 0
    gain: float = 0.0
    variance: float = 0.0

    def update(self, served: ServedChances, log_taste: Floats) -> None:
        """Score one served answer.

        Args:
            served: its drawn tokens and their chances.
            log_taste: natural log of what the suspect makes of every token at these places, up to
                a constant a place, shape (m, V); only the suspect's outputs may enter it.
        """
        drawn = served.token_ids[served.places]
        rows = np.arange(len(drawn))
        for i, belief in enumerate(self.beliefs):
            tilt = belief * log_taste
            again = special.logsumexp(served.log_chances + tilt, axis=1)
            self.log_e[i] += float(np.sum(tilt[rows, drawn] - again))
        self.n_places += len(drawn)
        # Far-off tastes (chances near 0) are cut for the score alone: they would swamp its sum.
        taste = np.clip(log_taste, -8.0, 8.0)
        chances = np.exp(served.log_chances)
        mean = np.sum(chances * taste, axis=1)
        self.gain += float(np.sum(taste[rows, drawn] - mean))
        self.variance += float(np.sum(np.sum(chances * taste**2, axis=1) - mean**2))

    @property
    def standard_score(self) -> float:
        """`gain` in standard deviations: about normal under the null; a check, not the proof."""
        return self.gain / math.sqrt(self.variance) if self.variance > 0 else 0.0

    @property
    def e_log10(self) -> float:
        """log10 of the e-value: the mean over beliefs; above 0 = the suspect knows the answers."""
        return average_log10_e(self.log_e / _LN10)

    @property
    def log10_p(self) -> float:
        """log10 of 1 / e, at most 0: a conservative p-value by Markov's inequality."""
        return min(-self.e_log10, 0.0)

    def finding(self, randomisation: str, *, test: str = "radioactivity-supervised") -> Finding:
        """Describe the result as one plain record.

        Args:
            randomisation: names the draws, `withheld:ID`. A test of served against withheld
                answers of the same draws must carry the same name: the two are not independent.
            test: the name that the verdict prints.

        Returns:
            The finding.
        """
        log10_p = self.log10_p
        return Finding(
            test=test,
            statistic=self.e_log10,
            p_value=10.0**log10_p if log10_p > -300 else 0.0,
            log10_p=log10_p,
            e_log10=self.e_log10,
            randomisation=randomisation,
            n=self.n_places,
            null=NULL,
            details={
                "beliefs": list(self.beliefs),
                "log10_e": (self.log_e / _LN10).tolist(),
                "standard_score": self.standard_score,
            },
        )


def served_chances(
    served: Sequence[TokenSequence],
    unmarked: NextChances,
    *,
    mark: Mark | GreenListMark | None = None,
    vocab_size: int,
    forbidden: Sequence[int] = (),
) -> Iterable[ServedChances]:
    """Compute the chances that served tokens were drawn from.

    Args:
        served: the answers as the marked model drew them, token by token: text that was encoded
            again may differ from what was drawn.
        unmarked: the marked model's own chances at the temperature that it answered with.
        mark: what was added to its logits, None for unmarked answers; it must leave more than one
            token to draw (a Gumbel mark decides each token by the key: nothing is drawn).
        vocab_size: size of the vocabulary.
        forbidden: tokens that the model is never let draw in an answer.

    Yields:
        One entry an answer that has tokens.
    """
    texts = [np.asarray(one.token_ids, dtype=np.int64) for one in served]
    for one, ids, rows in zip(served, texts, unmarked(texts), strict=True):
        places = np.arange(max(one.n_prompt, 1), len(ids))
        if not len(places):
            continue
        logs = np.log(np.maximum(rows[places - 1, :vocab_size], 1e-30)).astype(np.float64)
        logs[:, list(forbidden)] = -np.inf
        if mark is not None:
            width = mark.context_width
            if places[0] < width:
                rule = f"at least {width} tokens of question before the answer"
                reject("served_chances", "served", rule, got=int(places[0]))
            contexts = np.lib.stride_tricks.sliding_window_view(ids, width)[places - width]
            logs = as_mark(mark).embed(contexts, logs)
        yield ServedChances(ids, places, logs - special.logsumexp(logs, axis=1, keepdims=True))


def test_served_open(served: Iterable[ServedChances], suspect: NextChances) -> ServedDraws:
    """Test a suspect whose chances can be read on answers that were served.

    Args:
        served: from `served_chances`; gone through once, a block at a time.
        suspect: the suspect's own chances over the same vocabulary.

    Returns:
        The e-value.
    """
    found = ServedDraws()
    for block in _blocks(served):
        texts = [one.token_ids for one in block]
        for one, rows in zip(block, suspect(texts), strict=True):
            chances = rows[one.places - 1, : one.log_chances.shape[1]]
            # Against the model's own chances: where both agree there is nothing to believe.
            usual = np.maximum(one.log_chances, -69.0)
            # Tokens or places that another tokenizer does not share: nothing is believed there.
            known = np.nan_to_num(chances) > 0
            found.update(one, np.where(known, np.log(np.where(known, chances, 1.0)) - usual, 0.0))
    return found


def test_served_closed(served: Iterable[ServedChances], excess: Excess) -> ServedDraws:
    """Test a suspect that was only heard: its habits are read off what it wrote.

    Asking it the questions of the served answers brings out most of what it knows of them.

    Args:
        served: from `served_chances`.
        excess: from `written_excess`, context width 1.

    Returns:
        The e-value.
    """
    if excess.context_ids.shape[1] != 1:
        rule = "of context width 1"
        reject("test_served_closed", "excess", rule, got=excess.context_ids.shape[1])
    found = ServedDraws()
    habits: Floats | None = None
    for one in served:
        if habits is None:
            habits = _habits(excess, one.log_chances.shape[1])
        found.update(one, habits[one.token_ids[one.places - 1]])
    return found


def _habits(excess: Excess, vocab_size: int) -> Floats:
    """Tabulate the log ratio of written to expected for every (token before, token)."""
    table = np.zeros((vocab_size, vocab_size))
    ratio = (excess.observed + _PRIOR) / (excess.expected + _PRIOR)
    table[excess.context_ids[:, 0], excess.token_ids] = np.log(ratio)
    return table


def _blocks(served: Iterable[ServedChances], size: int = 128) -> Iterable[list[ServedChances]]:
    block: list[ServedChances] = []
    for one in served:
        block.append(one)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
