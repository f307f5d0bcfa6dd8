"""A tokenizer for a small student, made from the examples that it learns from."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from pathlib import Path

from stillwatch.distill.items import Example
from stillwatch.distill.training.train_table import StudentTable
from stillwatch.errors import extra
from stillwatch.model.folder import (
    SPECIAL_TOKENS,
    TOKENIZER,
    UNKNOWN,
    asked_line,
    write_character_tokenizer,
)

#: Always in the vocabulary, so that students of small and large budgets read the same characters.
ALWAYS = string.ascii_letters + string.digits + string.punctuation + " \n"


def make_tokenizer(examples: Sequence[Example], student: StudentTable, *, path: Path) -> Path:
    """Find or make the tokenizer of a house model.

    Args:
        examples: their asked lines and answers are what it is made from.
        student: names a tokenizer, or how large a vocabulary to make.
        path: where a new one is written.

    Returns:
        The `tokenizer.json`.
    """
    if student.tokenizer:
        given = Path(student.tokenizer)
        return given / TOKENIZER if given.is_dir() else given
    if student.vocabulary:
        return write_pair_tokenizer(_texts(examples), student.vocabulary, path=path)
    found = set(ALWAYS).union(*_texts(examples))
    return write_character_tokenizer("".join(found), path)


def write_pair_tokenizer(texts: Iterator[str], vocabulary: int, *, path: Path) -> Path:
    """Write a tokenizer of byte pairs, learnt from texts.

    Args:
        texts: any number.
        vocabulary: tokens, special ones and the 256 bytes included (count).
        path: the `tokenizer.json` to write.

    Returns:
        `path`.
    """
    with extra("train"):
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    tokenizer.save(str(path))
    return path


def _texts(examples: Sequence[Example]) -> Iterator[str]:
    for example in examples:
        yield asked_line(example.item.question)
        yield example.answer.text
