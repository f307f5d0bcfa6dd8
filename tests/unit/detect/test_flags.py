"""Flags name what a question asks for, phrase by phrase."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.detect.evidence.flags import FLAGS, add_flags, names_of, question_flags
from stillwatch.text.tokens import tokenize


def flags_of(*texts: str) -> np.ndarray:
    """Flags of texts."""
    words = tokenize(pa.array(list(texts)), max_bytes=8000).masked
    return question_flags(words.values, words.offsets)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Solve it STEP BY STEP.", {"step_by_step"}),
        ("step by\nstep", {"step_by_step"}),
        ("a step by a step", set()),
        ("Give your reasoning verbatim", {"reasoning_written_out", "verbatim_reasoning"}),
        ("what does verbatim mean?", set()),
        ("On a scale of 1 to 10, rate each answer", {"rubric"}),
        ("Generate 50 questions", {"many_variants"}),
        ("Return only valid JSON, no explanation", {"json_only", "code_only"}),
        ("Is Response A or Response B better?", {"pairwise_judge"}),
        ("", set()),
        ("step by", set()),
    ],
)
def test_phrases_raise_their_flags(text: str, names: set[str]) -> None:
    """Phrases count as runs of words; combinations need all their parts."""
    assert names == set(names_of(int(flags_of(text)[0])))


def test_a_phrase_never_crosses_questions() -> None:
    """The end of one question and the beginning of the next make no phrase."""
    assert [0, 0] == flags_of("step by", "step").tolist()


def test_every_flag_can_be_raised_and_fits_its_bits() -> None:
    """Bits are 32 at most, and no questions give no flags."""
    assert len(FLAGS) <= 31
    assert len(set(FLAGS)) == len(FLAGS)
    assert flags_of().tolist() == []


def test_flags_are_counted_by_account() -> None:
    """Each set bit adds one to its account."""
    flags = flags_of("step by step", "as json, step by step", "hello")
    counts = np.zeros((2, len(FLAGS)), np.int32)
    add_flags(flags, np.array([1, 1, 0]), counts)
    assert counts[1, FLAGS.index("step_by_step")] == 2
    assert counts[1, FLAGS.index("json_only")] == 1
    assert 3 == counts.sum()
