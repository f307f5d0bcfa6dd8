"""Examples as rows of token ids: by the house's chat format, or by a model's chat template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stillwatch.distill.items import Example
from stillwatch.distill.training.batches import Row, row_of
from stillwatch.distill.training.chat_mask import has_answer, is_cut, mask_examples, spells_special
from stillwatch.distill.training.signals import Signal, Vocabulary, align, recorded_positions
from stillwatch.distill.training.train_table import TrainTable
from stillwatch.errors import InvalidInputError
from stillwatch.model.chat_template import ChatTemplate
from stillwatch.model.folder import ChatTokenizer
from stillwatch.model.token_bytes import read_vocabulary, vocabulary_bytes
from stillwatch.record.exchange import Answer


class Rows(NamedTuple):
    """What a student can learn from.

    Attributes:
        rows: one an example that fits, in order.
        left_out: the other examples by reason: empty, too_long, spells_special_token (counts).
    """

    rows: list[Row]
    left_out: dict[str, int]

    @property
    def longest_answer(self) -> int:
        """Tokens of the longest row's targets (count, at least 1)."""
        return max((int(row.is_answer.sum()) for row in self.rows), default=1)


def house_rows(
    examples: Sequence[Example], chat: ChatTokenizer, *, table: TrainTable, longest: int
) -> Rows:
    """Turn examples into rows by the house's format: the asked line and the answer's text.

    Args:
        examples: any number.
        chat: a house tokenizer.
        table: whether recorded log-probabilities are read.
        longest: rows with more tokens are left out.

    Returns:
        The rows and what was left out.
    """
    reader = _SignalReader(
        read_vocabulary(chat.file.read_text("utf-8")) if table.method == "topk" else None
    )
    rows, left_out = [], Counter[str]()
    for example in examples:
        if not example.answer.text:
            left_out["empty"] += 1
            continue
        ids, n_prompt = chat.encode_pair(example.item.question, example.answer.text)
        ids = ids[:-1] if is_cut(example.answer) else ids
        if len(ids) > longest:
            left_out["too_long"] += 1
            continue
        signal = reader.read(example.answer, ids, n_prompt=n_prompt)
        rows.append(row_of(ids, n_prompt, signal))
    return _some(rows, left_out, n_given=len(examples))


def chat_rows(
    examples: Sequence[Example], template: ChatTemplate, *, table: TrainTable, longest: int
) -> Rows:
    """Turn examples into rows by a chat template.

    Args:
        examples: any number.
        template: the student's.
        table: what the loss counts, and whether recorded log-probabilities are read.
        longest: rows with more tokens are left out.

    Returns:
        The rows and what was left out.
    """
    reader = _SignalReader(vocabulary_bytes(template.tokenizer) if table.method == "topk" else None)
    rows, left_out, fit = [], Counter[str](), []
    for example in examples:
        if not has_answer(example.answer):
            left_out["empty"] += 1
        elif spells_special(example, template):
            left_out["spells_special_token"] += 1
        else:
            fit.append(example)
    masked = mask_examples(fit, template, loss_on=table.loss_on)
    for example, one in zip(fit, masked, strict=True):
        if len(one.token_ids) > longest:
            left_out["too_long"] += 1
            continue
        signal = reader.read(example.answer, one.token_ids, n_prompt=one.n_prompt)
        ids, is_answer = np.array(one.token_ids, np.int64), np.array(one.is_target, bool)
        rows.append(Row(ids, is_answer, signal))
    return _some(rows, left_out, n_given=len(examples))


class _SignalReader:
    """Reads recorded log-probabilities onto rows; without a vocabulary it reads none."""

    def __init__(self, words: Sequence[bytes] | None) -> None:
        self.vocabulary = None if words is None else Vocabulary(words)

    def read(self, answer: Answer, ids: Sequence[int], *, n_prompt: int) -> Signal | None:
        """Find where the teacher's distribution over the answer's tokens is known."""
        if self.vocabulary is None or not (positions := recorded_positions(answer)):
            return None
        return align(
            positions, ids, n_prompt=n_prompt, text=answer.text, vocabulary=self.vocabulary
        )


def _some(rows: list[Row], left_out: Counter[str], *, n_given: int) -> Rows:
    if rows:
        return Rows(rows, dict(left_out))
    reasons = ", ".join(f"{name} {count}" for name, count in left_out.items())
    message = f"train_lm: examples must be at least one that fits, got none of {n_given}"
    raise InvalidInputError(message, hint=f"left out: {reasons or 'nothing was given'}")
