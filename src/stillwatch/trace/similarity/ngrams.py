"""How alike answers to one question are, by the n-grams that they share.

A question is a small world: its answers are compared with each other only, each as a bag of hashed
n-grams weighted by how rare it is among them. What stands in the question is left out, and a gram
that an answer repeats counts little more than once: a model that echoes or loops gains nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from stillwatch.errors import reject
from stillwatch.text.ragged import Hashes, Ragged, starts_of
from stillwatch.text.tokens import shingle, tokenize
from stillwatch.trace.similarity.answer_table import AnswerTable

#: Rows are hashed so many questions at a time: memory stays bounded however long the list.
_QUESTIONS_AT_ONCE = 64
#: Bytes packed into one integer at most.
_WIDEST = 8
#: Words that carry style and no subject; all others become one mark in a frame.
_STYLE_WORDS = (
    "a about above after again against all also although always am an and another any are as at be "
    "because been before being below best between both but by can cannot could did do does doing "
    "don't down due during each either even every example few first following for from further get "
    "given had has have having he help her here hers him his how however i if important in include "
    "including instead into is it it's its itself just let like likely make many may me might more "
    "most much must my need never no nor not now of off often on once one only or other our out "
    "over own overall please provide same she should since so some such than that the their them "
    "then there therefore these they this those through to too two under until up upon us use used "
    "using very was way we well were what when where whether which while who why will with within "
    "without would yes yet you your"
)

Similarities = NDArray[np.float32]


@dataclass(frozen=True)
class Feature:
    """What of an answer is compared.

    Attributes:
        kind: `char` (bytes as they stand), `word` (letters folded, punctuation dropped) or `frame`
            (words that carry style, every other word one mark).
        width: units in a gram (count, 1..8).
        beginning: only so many bytes of an answer are read.
        rarity: power of the inverse document frequency that weights a gram; 0 = all alike.
    """

    kind: Literal["char", "word", "frame"]
    width: int
    beginning: int = 8000
    rarity: float = 1.0

    @property
    def name(self) -> str:
        """Short name for tables, for example `word-2`."""
        end = f"@{self.beginning}" if self.beginning < 8000 else ""
        return f"{self.kind}-{self.width}{end}" + ("" if self.rarity == 1.0 else f"^{self.rarity}")


#: Names of several features together, for tables.
_JOIN = "+"
#: Distinct runs of four bytes that an answer must have beyond the question's: "Yes." and "Positive"
#: are what anybody says. Chosen on one collection, without effect on the other (docs/lineage.md).
FEWEST_OWN = 16
_OWN = Feature("char", 4)


def grams(texts: Sequence[str], feature: Feature) -> Ragged:
    """Hash the n-grams of texts.

    Args:
        texts: any number.
        feature: which grams.

    Returns:
        Hashes in order of appearance, one row a text.

    Raises:
        InvalidInputError: the width is outside 1..8 or nothing of a text would be read.
    """
    if not 1 <= feature.width <= _WIDEST:
        reject("trace.grams", "width", f"1 to {_WIDEST}", got=feature.width)
    if feature.beginning < 1:
        reject("trace.grams", "beginning", "at least 1 byte", got=feature.beginning)
    if feature.kind == "char":
        return _char_grams(texts, feature)
    words = tokenize(pa.array(texts, pa.large_string()), max_bytes=feature.beginning).exact
    if feature.kind == "frame":
        content = ~np.isin(words.values, _style_hashes())
        words = Ragged(np.where(content, np.uint64(1), words.values), words.offsets)
    return shingle(words, width=feature.width, max_tokens=feature.beginning)


def name_of(features: Sequence[Feature]) -> str:
    """Name features that are compared together.

    Args:
        features: any number.

    Returns:
        Their names joined, for example `word-1+word-2`.
    """
    return _JOIN.join(feature.name for feature in features)


def similarities(
    table: AnswerTable, features: Sequence[Feature], *, fewest_own: int = FEWEST_OWN
) -> Similarities:
    """Compare all answers to each question, by one feature or by the mean of several.

    Args:
        table: the answers.
        features: what of them is compared.
        fewest_own: an answer with fewer distinct runs of four bytes that are not the question's is
            left out; 0 = none is.

    Returns:
        Cosines of weighted grams, 0..1, shape (n_questions, n_models, n_models); NaN in the rows
        and columns of a model whose answer is left out or has no gram of its own in some feature.

    Raises:
        InvalidInputError: no feature is given, or one is out of range.
    """
    if not features:
        reject("trace.similarities", "features", "at least one", got=0)
    total = _compare(table, features[0])
    for feature in features[1:]:
        total += _compare(table, feature)
    total /= len(features)
    if fewest_own > 0:
        short = _own_grams(table) < fewest_own
        total[short] = np.nan
        total.swapaxes(1, 2)[short] = np.nan
    return total


def _own_grams(table: AnswerTable) -> NDArray[np.int64]:
    """Distinct runs of four bytes of each answer that are not the question's, (n_questions, n)."""
    n_models = len(table.models)
    out = np.zeros((len(table.questions), n_models), dtype=np.int64)
    for first, held in _blocks(table, _OWN):
        for place in range(len(held)):
            number, column = divmod(place, n_models + 1)
            if column:
                asked = _row(held, number * (n_models + 1))
                own = np.setdiff1d(_row(held, place), asked)
                out[first + number, column - 1] = own.size
    return out


def _compare(table: AnswerTable, feature: Feature) -> Similarities:
    n_questions, n_models = len(table.questions), len(table.models)
    out = np.full((n_questions, n_models, n_models), np.nan, dtype=np.float32)
    for first, held in _blocks(table, feature):
        for number in range(len(held) // (n_models + 1)):
            begin = number * (n_models + 1)
            asked = _row(held, begin)
            answers = [_row(held, begin + 1 + model) for model in range(n_models)]
            out[first + number] = gram_cosines(answers, asked, rarity=feature.rarity)
    return out


def _blocks(table: AnswerTable, feature: Feature) -> Iterator[tuple[int, Ragged]]:
    """Hash questions and their answers, a bounded number at a time, the question first."""
    for first in range(0, len(table.questions), _QUESTIONS_AT_ONCE):
        rows = range(first, min(first + _QUESTIONS_AT_ONCE, len(table.questions)))
        texts = [text for row in rows for text in (table.questions[row], *table.answers[row])]
        yield first, grams(texts, feature)


def _row(held: Ragged, place: int) -> Hashes:
    return held.values[held.offsets[place] : held.offsets[place + 1]]


def gram_cosines(answers: Sequence[Hashes], asked: Hashes, *, rarity: float) -> Similarities:
    """Compare the answers to one question by their weighted grams.

    Args:
        answers: hashed grams of each answer.
        asked: grams of the question, which count for nothing.
        rarity: power of the inverse document frequency among these answers.

    Returns:
        Cosines, shape (n_answers, n_answers), NaN in the row and column of an answer without grams.
    """
    n = len(answers)
    lengths = np.array([len(row) for row in answers])
    values, columns = np.unique(np.concatenate(answers), return_inverse=True)
    counts = sparse.coo_array(
        (np.ones(len(columns)), (np.repeat(np.arange(n), lengths), columns)), (n, len(values))
    ).tocsr()
    counts.data = 1.0 + np.log(counts.data)
    spread = np.bincount(counts.indices, minlength=len(values))
    n_present = np.count_nonzero(lengths)
    # Present in every answer = nearly nothing told; the question's own words = nothing at all.
    weight = np.log((1 + n_present) / (1 + spread)) + 1.0
    weight = np.where(np.isin(values, asked), 0.0, weight**rarity)
    counts.data *= weight[counts.indices]
    gram = np.asarray((counts @ counts.T).toarray(), dtype=np.float64)
    norms = np.sqrt(np.diag(gram))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = gram / (norms[:, None] * norms[None, :])
    cosines[norms == 0, :] = np.nan
    cosines[:, norms == 0] = np.nan
    return np.asarray(cosines, dtype=np.float32)


def _char_grams(texts: Sequence[str], feature: Feature) -> Ragged:
    """Pack every run of bytes into one integer: exact, no hashing."""
    raw = [text.encode()[: feature.beginning] for text in texts]
    lengths = np.array([len(text) for text in raw], dtype=np.int64)
    data = np.frombuffer(b"".join(raw), dtype=np.uint8)
    counts = np.maximum(lengths - feature.width + 1, 0)
    offsets = starts_of(counts)
    starts = np.repeat(starts_of(lengths)[:-1], counts)
    starts += np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    value = np.zeros(len(starts), dtype=np.uint64)
    for step in range(feature.width):
        value = (value << np.uint64(8)) | data[starts + step]
    return Ragged(value, offsets)


@cache
def _style_hashes() -> Hashes:
    return tokenize(pa.array(_STYLE_WORDS.split()), max_bytes=64).exact.values
