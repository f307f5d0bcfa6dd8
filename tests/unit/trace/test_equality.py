"""Equality: exact under its null, sharp against other models, silent on greedy answers."""

import json
from functools import partial

import numpy as np
import pytest
from style_world import N_WORDS, WORDS, styles

from stillwatch.errors import InvalidInputError
from stillwatch.trace.outputs import SuspectOutput
from stillwatch.trace.similarity.equality import compare_endpoint, squared_discrepancies
from stillwatch.trace.similarity.findings import equality_finding
from stillwatch.trace.similarity.sample_kernels import gram_kernel, hamming_kernel

TASTES = styles(11, 4, push=0.8)


def sample(rng, taste, *, n_questions=10, n_samples=5, length=15):
    """Several answers of one model to each question."""
    topics = np.random.default_rng(99).normal(0.0, 1.5, (n_questions, N_WORDS))
    found = []
    for number, topic in enumerate(topics):
        chances = np.exp(topic + taste)
        for _ in range(n_samples):
            said = rng.choice(WORDS, length, p=chances / chances.sum())
            found.append(SuspectOutput(" ".join(said), f"q{number}"))
    return found


@pytest.mark.parametrize("kernel", [gram_kernel, hamming_kernel])
def test_another_model_is_told_apart(kernel):
    """Another style of the same topics is seen by either kernel."""
    rng = np.random.default_rng(0)
    size = {} if kernel is gram_kernel else {"length": 4, "n_questions": 40, "n_samples": 8}
    mine, other = (sample(rng, TASTES[n], **size) for n in (0, 1))
    told = compare_endpoint(mine, other, rng=rng, kernel=kernel, n_exchanges=199)
    assert told.apart.p_value < 0.05
    assert told.apart.z > 2


def test_the_same_model_is_not_and_references_show_what_that_is_worth():
    """An endpoint that is my model passes where three others are told apart."""
    rng = np.random.default_rng(1)
    references = {f"r{n}": sample(rng, TASTES[n]) for n in (1, 2, 3)}
    told = compare_endpoint(sample(rng, TASTES[0]), sample(rng, TASTES[0]), rng=rng,
                            references=references, n_exchanges=499)  # fmt: skip
    assert told.apart.p_value > 0.01
    assert 3 == told.told_apart
    assert told.is_indistinguishable
    assert told.questions_needed is not None
    assert told.questions_needed < 10
    assert (10, 100) == (told.apart.n_questions, told.apart.n_samples)
    found = equality_finding(told, identity="endpoint")
    assert ("samples:endpoint", (0, 3)) == (found.randomisation, found.rank)
    assert told.apart.p_value == found.p_value
    assert 3 == json.loads(json.dumps(told.as_dict()))["told_apart"]


def test_without_references_nothing_is_called_equal():
    """A large p-value alone may be a small sample."""
    rng = np.random.default_rng(2)
    told = compare_endpoint(sample(rng, TASTES[0]), sample(rng, TASTES[0]), rng=rng, n_exchanges=99)
    assert not told.is_indistinguishable
    assert told.questions_needed is None


def test_greedy_answers_that_agree_cannot_be_told_apart():
    """Equal texts everywhere: no exchange changes anything, p is one."""
    outputs = [SuspectOutput("yes", f"q{n // 3}") for n in range(12)]
    told = compare_endpoint(outputs, outputs, rng=np.random.default_rng(0), n_exchanges=99)
    assert (1.0, 0.0) == (told.apart.p_value, told.apart.z)


def test_p_values_are_uniform_under_the_null():
    """Two sets of the same model: 1, 5 and 10 % hold."""
    rng = np.random.default_rng(3)
    kernel = partial(hamming_kernel, length=6)
    drawn = rng.choice(list("abc"), (600, 3, 6, 6))
    p_values = []
    for world in drawn:
        sides = [[SuspectOutput("".join(text), f"q{n}") for n, texts in enumerate(world)
                  for text in texts[side : side + 3]] for side in (0, 3)]  # fmt: skip
        told = compare_endpoint(*sides, rng=rng, kernel=kernel, n_exchanges=99)
        p_values.append(told.apart.p_value)
    for level in (0.01, 0.05, 0.1):
        share = np.mean(np.array(p_values) <= level)
        assert abs(share - level) <= 3.5 * np.sqrt(level * (1 - level) / 600)


def test_discrepancy_by_hand():
    """Two sets of two: mean within each less twice the mean between."""
    kernel = np.array([[1, 0.8, 0.1, 0.2], [0.8, 1, 0.3, 0.4], [0.1, 0.3, 1, 0.6],
                       [0.2, 0.4, 0.6, 1]])  # fmt: skip
    found = squared_discrepancies(kernel, np.array([[True, True, False, False]]))
    assert 0.8 + 0.6 - 2 * 0.25 == pytest.approx(found[0])


def test_hamming_counts_equal_places():
    """Three of four places agree; what a shorter text lacks does not."""
    assert 0.75 == hamming_kernel(["abcd", "abxd"])[0, 1]
    assert 0.5 == hamming_kernel(["abcd", "ab"])[0, 1]
    assert 1.0 == hamming_kernel(["", ""])[0, 1]


def test_texts_without_words_are_equal_to_each_other_only():
    """Two silent answers are the same answer."""
    found = gram_kernel(["", "!", "fox"])
    assert (1.0, 0.0) == (found[0, 1], found[0, 2])


@pytest.mark.parametrize(
    ("endpoint", "n_exchanges", "rule"),
    [([SuspectOutput("x", "other")], 99, "asked at least one question twice"),
     ([SuspectOutput("x", "q0")], 99, "asked at least one question twice"),
     ([SuspectOutput("x", "q0")] * 2, 9, "at least 19")],
)  # fmt: skip
def test_samples_that_cannot_be_compared(endpoint, n_exchanges, rule):
    """Too few samples or exchanges are named."""
    mine = [SuspectOutput("x", "q0"), SuspectOutput("y", "q0")]
    with pytest.raises(InvalidInputError, match=rule):
        compare_endpoint(mine, endpoint, rng=np.random.default_rng(0), n_exchanges=n_exchanges)
    with pytest.raises(InvalidInputError, match="at least 1"):
        hamming_kernel(["x"], length=0)
