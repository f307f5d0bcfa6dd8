"""Recorded log-probabilities on a student's own tokens."""

import json
import math

import numpy as np
import pytest

from stillwatch.distill.training.signals import (
    Signal,
    Vocabulary,
    align,
    pack_rows,
    recorded_positions,
)
from stillwatch.record.exchange import Answer

WORDS = (b"<pad>", b"a", b"b", b" ", b"ab", b"\xc3", b"\xa9", b"</s>")


def scored(raw: bytes, logprob: float) -> dict[str, object]:
    """A token as the wire writes it."""
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}


def recorded(*tokens: tuple[bytes, float, dict[bytes, float]]) -> Answer:
    """An answer with log-probabilities: (token, its own, its candidates) each."""
    content = [
        {**scored(raw, own), "top_logprobs": [scored(r, p) for r, p in top.items()]}
        for raw, own, top in tokens
    ]
    text = b"".join(raw for raw, *_ in tokens).decode()
    return Answer(text, "stop", extra=json.dumps({"logprobs": {"content": content}}))


def lay(answer: Answer, ids: list[int], n_prompt: int = 2) -> Signal | None:
    """Align with the vocabulary above."""
    return align(
        recorded_positions(answer), ids, n_prompt=n_prompt, text=answer.text,
        vocabulary=Vocabulary(WORDS),
    )  # fmt: skip


def test_equal_tokens_carry_the_distribution() -> None:
    """Each place has the candidates by the student's ids, the chosen token among them."""
    answer = recorded((b"a", -0.5, {b"a": -0.5, b"b": -1.5}), (b"b", -3.0, {b"a": -0.1}))
    found = lay(answer, [1, 1, 1, 2, 7])
    assert found is not None
    assert [2, 3] == found.places.tolist()
    assert [[1, 2], [1, 2]] == found.support.tolist()
    assert [[-0.5, -1.5], [-0.1, -3.0]] == [pytest.approx(row) for row in found.logprobs.tolist()]


def test_other_borders_are_passed_over() -> None:
    """Where the student's token covers other bytes than the teacher's there is no signal."""
    answer = recorded(
        (b"ab", -0.5, {b"ab": -0.5}), (b" ", -0.2, {b" ": -0.2}), (b"a", -0.3, {b"a": -0.3})
    )
    found = lay(answer, [1, 1, 1, 2, 3, 1, 7])
    assert found is not None
    assert [4, 5] == found.places.tolist()
    assert [[3], [1]] == found.support.tolist()


def test_bytes_and_not_names_decide() -> None:
    """Halves of a character, which print as one replacement mark, are told apart."""
    answer = recorded((b"\xc3", -0.1, {}), (b"\xa9", -0.2, {b"\xc3": -3.0}))
    found = lay(answer, [1, 1, 5, 6, 7])
    assert found is not None
    assert [2, 3] == found.places.tolist()
    assert [[5, 0], [5, 6]] == found.support.tolist()


def test_what_the_student_cannot_say_goes_to_the_tail() -> None:
    """A candidate outside its vocabulary, and one that cannot come, are left out."""
    answer = recorded((b"a", -0.7, {b"a": -0.7, b"zz": -0.9, b"b": -9999.0}))
    found = lay(answer, [1, 1, 1, 7])
    assert found is not None
    assert ([[1]], [[pytest.approx(-0.7)]]) == (found.support.tolist(), found.logprobs.tolist())


def test_ids_in_the_place_of_names() -> None:
    """A server that names tokens by id is understood when both share a vocabulary."""
    content = [
        {"token": "token_id:4", "logprob": -0.1, "bytes": None,
         "top_logprobs": [{"token": "token_id:1", "logprob": -2.5}]}
    ]  # fmt: skip
    answer = Answer("ab", extra=json.dumps({"logprobs": {"content": content}}))
    found = lay(answer, [1, 1, 4, 7])
    assert found is not None
    assert [[1, 4]] == found.support.tolist()


def test_text_that_does_not_fit() -> None:
    """Log-probabilities of another text, or none, give no signal."""
    assert lay(recorded((b"b", -0.1, {})), [1, 1, 1, 7]) is None
    assert lay(Answer("a"), [1, 1, 1, 7]) is None
    assert () == recorded_positions(Answer("a", extra='{"logprobs":null}'))


def test_blanks_that_a_template_trims() -> None:
    """A leading blank that the template drops shifts nothing."""
    answer = recorded((b" ", -0.1, {}), (b"a", -0.2, {b"a": -0.2}))
    found = lay(answer, [1, 1, 1, 7])
    assert found is not None
    assert [2] == found.places.tolist()


def test_rows_are_packed_as_the_batch_lies() -> None:
    """Places count over the flattened batch, and rows with fewer candidates are filled."""
    one = Signal(np.array([2]), np.array([[1, 2]]), np.array([[-0.1, -0.2]], np.float32))
    two = Signal(np.array([1, 3]), np.array([[4], [5]]), np.array([[-0.3], [-0.4]], np.float32))
    found = pack_rows([one, None, two], 5)
    assert [2, 11, 13] == found.places.tolist()
    assert [[1, 2], [4, 0], [5, 0]] == found.support.tolist()
    assert [-math.inf, -math.inf] == found.logprobs[1:, 1].tolist()
    assert 0 == pack_rows([None], 5).places.size
