"""What a teacher's recorded log-probabilities say about the student's own tokens.

A served teacher names its tokens by their bytes. Where a token of the student covers the same bytes
of the answer as one of the teacher's, the teacher's distribution there is one over the student's
tokens; elsewhere (another tokenizer, the end of the answer) there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from stillwatch.record.exchange import Answer

#: vLLM's `return_tokens_as_token_ids` writes tokens so; they are read when both share a vocabulary.
_BY_ID = "token_id:"


class Scored(NamedTuple):
    """A token of the teacher and its log-probability.

    Attributes:
        raw: its bytes.
        logprob: natural logarithm, at temperature 1.
    """

    raw: bytes
    logprob: float


class Position(NamedTuple):
    """One token of a recorded answer.

    Attributes:
        chosen: the token.
        likeliest: the reported candidates, the chosen one among them or not.
    """

    chosen: Scored
    likeliest: tuple[Scored, ...]


class Signal(NamedTuple):
    """Where in a row the teacher's distribution is known, and what it is.

    Attributes:
        places: indices of the target tokens, shape (n,), int64.
        support: the student's ids of the teacher's tokens, shape (n, k), int64.
        logprobs: shape (n, k), float32; -inf fills rows with fewer than k tokens.
    """

    places: npt.NDArray[np.int64]
    support: npt.NDArray[np.int64]
    logprobs: npt.NDArray[np.float32]


def recorded_positions(answer: Answer) -> tuple[Position, ...]:
    """Read the log-probabilities that came with an answer.

    Args:
        answer: of the Chat Completions or the Responses wire.

    Returns:
        One entry a token; () when none were given.
    """
    if answer.extra is None:
        return ()
    found = msgspec.json.decode(answer.extra)
    found = found.get("logprobs") if isinstance(found, dict) else None
    if isinstance(found, dict):
        found = found.get("content")
    if not isinstance(found, list):
        return ()
    return tuple(
        Position(_scored(token), tuple(_scored(top) for top in token.get("top_logprobs") or ()))
        for token in found
        if isinstance(token, dict) and isinstance(token.get("logprob"), int | float)
    )


class Vocabulary:
    """The student's tokens by their bytes.

    Args:
        words: the bytes of each token id; b"" where there is no token.
    """

    def __init__(self, words: Sequence[bytes]) -> None:
        self.words = tuple(words)
        self.ids: Mapping[bytes, int] = {
            word: i for i, word in reversed(list(enumerate(words))) if word
        }

    def id_of(self, raw: bytes) -> int | None:
        """Find the student's token for a teacher's.

        Args:
            raw: the teacher's token.

        Returns:
            Its id, or None when the student has no such token.
        """
        if raw.startswith(_BY_ID.encode()) and raw[len(_BY_ID) :].isdigit():
            found = int(raw[len(_BY_ID) :])
            return found if found < len(self.words) else None
        return self.ids.get(raw)

    def raw_of(self, raw: bytes) -> bytes:
        """The bytes that a teacher's token stands for.

        Args:
            raw: as the teacher named it.

        Returns:
            Its bytes.
        """
        if raw.startswith(_BY_ID.encode()):
            found = self.id_of(raw)
            return b"" if found is None else self.words[found]
        return raw


def align(
    positions: Sequence[Position],
    token_ids: Sequence[int],
    *,
    n_prompt: int,
    text: str,
    vocabulary: Vocabulary,
) -> Signal | None:
    """Lay a teacher's distributions onto a student's tokens.

    Args:
        positions: as `recorded_positions` read them.
        token_ids: the row, prompt and answer.
        n_prompt: tokens before the answer (count).
        text: the answer's text.
        vocabulary: the student's.

    Returns:
        The places where both cover the same bytes, or None when there are none. A candidate that
        the student has no token for goes to the tail.
    """
    starts = _teacher_spans(positions, vocabulary)
    row = b"".join(vocabulary.words[i] for i in token_ids[n_prompt:])
    said = b"".join(vocabulary.raw_of(position.chosen.raw) for position in positions)
    # A template may open the answer with a tag of its own, and trims blanks at its ends.
    core = text.strip().encode()
    if core not in row or core not in said:
        return None
    places, support = [], []
    at = said.find(core) - row.find(core)
    for i, token in enumerate(token_ids[n_prompt:], start=n_prompt):
        end = at + len(vocabulary.words[token])
        position = starts.get((at, end))
        if position is not None and (known := _known(position, vocabulary)):
            places.append(i)
            support.append(known)
        at = end
    return _packed(places, support) if places else None


def pack_rows(signals: Sequence[Signal | None], width: int) -> Signal:
    """Join the signals of a batch's rows into one over the flattened batch.

    Args:
        signals: one a row, or None.
        width: tokens of a row, padding included (count).

    Returns:
        Places count from the first token of the first row.
    """
    places: list[npt.NDArray[np.int64]] = []
    k = max((s.support.shape[1] for s in signals if s is not None), default=1)
    support, logprobs = [np.zeros((0, k), np.int64)], [np.zeros((0, k), np.float32)]
    for row, signal in enumerate(signals):
        if signal is None:
            continue
        places.append(signal.places + row * width)
        missing = ((0, 0), (0, k - signal.support.shape[1]))
        support.append(np.pad(signal.support, missing))
        logprobs.append(np.pad(signal.logprobs, missing, constant_values=-np.inf))
    joined = np.concatenate(places) if places else np.zeros(0, np.int64)
    return Signal(joined, np.concatenate(support), np.concatenate(logprobs))


def _teacher_spans(
    positions: Sequence[Position], vocabulary: Vocabulary
) -> dict[tuple[int, int], Position]:
    spans, at = {}, 0
    for position in positions:
        end = at + len(vocabulary.raw_of(position.chosen.raw))
        spans[at, end] = position
        at = end
    return spans


def _known(position: Position, vocabulary: Vocabulary) -> dict[int, float]:
    """Sum the candidates' probabilities by the student's token."""
    named = {scored.raw: scored.logprob for scored in (*position.likeliest, position.chosen)}
    known: dict[int, float] = {}
    for raw, logprob in named.items():
        token = vocabulary.id_of(raw)
        if token is not None and logprob > -9000:
            known[token] = float(np.logaddexp(known.get(token, -math.inf), logprob))
    return known


def _packed(places: list[int], support: list[dict[int, float]]) -> Signal:
    k = max(len(known) for known in support)
    ids = np.zeros((len(places), k), np.int64)
    logprobs = np.full((len(places), k), -np.inf, np.float32)
    for row, known in enumerate(support):
        ids[row, : len(known)] = list(known)
        logprobs[row, : len(known)] = list(known.values())
    return Signal(np.array(places, np.int64), ids, logprobs)


def _scored(token: dict[str, Any]) -> Scored:
    raw = token.get("bytes")
    name = str(token.get("token") or "")
    if isinstance(raw, list) and all(isinstance(b, int) and 0 <= b < 256 for b in raw):
        return Scored(name.encode() if name.startswith(_BY_ID) else bytes(raw),
                      float(token.get("logprob") or 0.0))  # fmt: skip
    return Scored(name.encode(), float(token.get("logprob") or 0.0))
