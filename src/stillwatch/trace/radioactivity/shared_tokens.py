"""A suspect with another tokenizer: its chances at places and tokens that both share.

What a suspect *writes* is text, and is encoded again with the marking tokenizer: nothing is needed
for the closed tests. Its *chances* are over its own tokens. They are read where a token ends in
both encodings of the same text, and for tokens whose text both vocabularies hold; there both models
are compared, each with its chances made to add up to 1 over the shared tokens.

For folders in the house's chat format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stillwatch.errors import reject
from stillwatch.model.folder import SPECIAL_TOKENS, ChatTokenizer
from stillwatch.trace.radioactivity.likelihood import FolderChances, NextChances
from stillwatch.trace.radioactivity.windows import Ids


class SharedTokens:
    """Places and tokens that two tokenizers share.

    Args:
        ours: the marking model's tokenizer: its folder, or its `tokenizer.json`.
        theirs: the suspect's.

    Attributes:
        our_ids: tokens of ours whose text both hold, and the closing token, shape (n,).
        their_ids: the same tokens in theirs, shape (n,).
    """

    def __init__(self, ours: Path, theirs: Path) -> None:
        self._ours, self._theirs = ChatTokenizer(ours), ChatTokenizer(theirs)
        self._text = _texts(self._ours)
        self._their_text = _texts(self._theirs)
        place = {text: i for i, text in enumerate(self._their_text) if text}
        pairs = [(i, place[text]) for i, text in enumerate(self._text) if text in place]
        pairs.append((self._ours.eos_id, self._theirs.eos_id))
        if len(pairs) < 2:
            reject("SharedTokens", "theirs", "a tokenizer that shares tokens with ours", got=0)
        self.our_ids, self.their_ids = np.array(pairs, dtype=np.int64).T
        self.vocab_size = self._ours.vocab_size

    def suspect(self, chances: NextChances) -> NextChances:
        """Translate a suspect's chances into our vocabulary.

        Args:
            chances: over its own tokens.

        Returns:
            Over ours: NaN at places that are not shared, 0 for tokens that are not.
        """

        def read(texts: Sequence[Ids]) -> Iterator[npt.NDArray[np.float32]]:
            encoded = [self._encode_again(ids) for ids in texts]
            rows_of = chances([ids for ids, _ in encoded])
            for (_, places), rows in zip(encoded, rows_of, strict=True):
                here = np.flatnonzero(places > 0)
                picked = rows[places[here] - 1][:, self.their_ids]
                yield self._spread(picked, here, n_places=len(places))

        return read

    def unmarked(self, chances: NextChances) -> NextChances:
        """Cut our model's chances down to what is shared, so that both can be compared.

        Args:
            chances: the marked model's own, over our tokens.

        Returns:
            The same, NaN at places that are not shared, 0 for tokens that are not.
        """

        def read(texts: Sequence[Ids]) -> Iterator[npt.NDArray[np.float32]]:
            for ours, rows in zip(texts, chances(texts), strict=True):
                _, places = self._encode_again(ours)
                here = np.flatnonzero(places > 0)
                yield self._spread(rows[here][:, self.our_ids], here, n_places=len(places))

        return read

    def _spread(
        self, chances: npt.NDArray[np.float32], here: Ids, *, n_places: int
    ) -> npt.NDArray[np.float32]:
        """Lay chances of the shared tokens, at the shared places, out over our vocabulary."""
        found = np.full((n_places, self.vocab_size), np.nan, dtype=np.float32)
        found[here] = 0.0
        found[np.ix_(here, self.our_ids)] = _to_one(chances)
        return found

    def _encode_again(self, ours: Ids) -> tuple[Ids, Ids]:
        """Encode a text of ours with theirs.

        Returns:
            Their token ids, and for each place i + 1 of ours the place of theirs that begins at
            the same character, 0 where none does; shape (len(ours) - 1,).
        """
        starts = np.flatnonzero(np.asarray(ours) == self._ours.assistant_id)
        if not len(starts):
            reject("SharedTokens", "texts", "in the house's chat format", got="no answer begins")
        begin = int(starts[0]) + 1
        answer = [int(i) for i in ours[begin:]]
        question = self._ours.decode([int(i) for i in ours[:begin]])
        text = "".join(self._text[i] for i in answer)
        encoded = self._theirs.encode_pair(question, text)
        offset, at = 0, {0: encoded.n_prompt}
        for place in range(encoded.n_prompt, len(encoded.token_ids)):
            offset += len(self._their_text[encoded.token_ids[place]])
            at.setdefault(offset, place + 1)
        places = np.zeros(len(ours) - 1, dtype=np.int64)
        offset = 0
        for i, token in enumerate(answer):
            place = at.get(offset, 0)
            if place < len(encoded.token_ids):
                places[begin + i - 1] = place
            offset += len(self._text[token])
        return np.array(encoded.token_ids, dtype=np.int64), places


def shared_chances(
    ours: Path, theirs: Path, unmarked: NextChances
) -> tuple[NextChances, NextChances]:
    """Read a suspect folder with another tokenizer beside our model.

    Args:
        ours: the marking model's folder.
        theirs: the suspect's folder.
        unmarked: the marking model's own chances.

    Returns:
        The suspect's chances and ours, for `read_excess`.
    """
    shared = SharedTokens(ours, theirs)
    return shared.suspect(FolderChances(theirs)), shared.unmarked(unmarked)


def _to_one(chances: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    total = chances.sum(axis=1, keepdims=True)
    return np.asarray(chances / np.maximum(total, 1e-12), dtype=np.float32)


def _texts(tokenizer: ChatTokenizer) -> list[str]:
    special = len(SPECIAL_TOKENS)
    plain = (tokenizer.token_text(i) for i in range(special, tokenizer.vocab_size))
    return [""] * special + list(plain)
