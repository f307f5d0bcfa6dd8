"""How finely profiles are kept: three nested resolutions, chosen by the size of the log alone.

A log of a day fits in memory with everything there is to show; one of millions of accounts does
not. What a coarser level keeps is a part of what a finer one keeps (fewer exchanges, and of each
the beginning of its sorted hashes), and the level follows from sums that only grow. So a log gives
the same profiles however it was split and in whatever order it was merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.profiles.profile import Digests, Ints, Profiles, bound_digests
from stillwatch.text.ragged import Ragged, starts_of

#: Digests of an account; shingles of question and of system prompt, words and lines of a digest;
#: whether it keeps text and the exchange's id. Level 2 makes 6 KB an account that has asked 20
#: times: 25,000 members among 250,000 others fit in 2 GiB.
_COARSER = ((64, 32, 32, 48, 8, True), (20, 12, 8, 24, 4, False))
#: Bytes of a digest beside its hashes and texts: eleven numbers of 8 bytes, and five offsets.
_FIXED_BYTES = 11 * 8 + 5 * 8
#: Bytes that an exchange's id is taken to have.
_ID_BYTES = 64


class Level(NamedTuple):
    """One resolution.

    Attributes:
        digests: exchanges kept of an account.
        shingles: shingles kept of a question.
        system_shingles: shingles kept of its system prompt.
        words: words and word pairs kept of a question.
        lines: lines kept of a question.
        has_text: whether the excerpt and the exchange's id are kept.
    """

    digests: int
    shingles: int
    system_shingles: int
    words: int
    lines: int
    has_text: bool

    def digest_bytes(self, excerpt_chars: int) -> int:
        """Bound the memory of one digest.

        Args:
            excerpt_chars: characters of an excerpt, at most four bytes each.

        Returns:
            Bytes, at most.
        """
        hashes = self.shingles + self.system_shingles + self.words + self.lines
        text = 4 * excerpt_chars + _ID_BYTES if self.has_text else 0
        return _FIXED_BYTES + 4 * hashes + text


def levels_of(config: FoldConfig) -> tuple[Level, ...]:
    """List the resolutions, the finest first.

    Args:
        config: its numbers are the finest level; no coarser level keeps more.

    Returns:
        Three levels, each a part of the one before.
    """
    finest = Level(
        config.digests_per_account, config.shingles_kept, config.shingles_kept,
        config.words_kept, config.lines_kept, True,
    )  # fmt: skip
    coarser = (Level._make(map(min, finest, numbers)) for numbers in _COARSER)
    return (finest, *coarser)


def level_of(exchanges: Ints, config: FoldConfig) -> int:
    """Choose the finest level that fits in memory.

    Args:
        exchanges: exchanges of each account (count), shape (n_accounts,).
        config: memory and the finest level.

    Returns:
        0, 1 or 2; never less when exchanges are added. 2 also when nothing fits.
    """
    limits = (level.digests for level in levels_of(config))
    return level_for([int(np.minimum(exchanges, limit).sum()) for limit in limits], config)


def level_for(n_digests: Sequence[int] | Ints, config: FoldConfig) -> int:
    """Choose the finest level that fits in memory.

    Args:
        n_digests: digests that each level would keep (count).
        config: memory and the finest level.

    Returns:
        As `level_of`.
    """
    levels = levels_of(config)
    for number, level in enumerate(levels[:-1]):
        needed = int(n_digests[number]) * level.digest_bytes(config.excerpt_chars)
        if needed <= config.memory_bytes:
            return number
    return len(levels) - 1


def at_level(profiles: Profiles, level: int, config: FoldConfig | None = None) -> Profiles:
    """Coarsen profiles; log and reference are compared at one level.

    Args:
        profiles: any.
        level: the level wanted.
        config: what they were folded with.

    Returns:
        Profiles of that level, or as they are when they are as coarse.
    """
    if level <= profiles.level:
        return profiles
    wanted = levels_of(config or FoldConfig())[level]
    digests = bound_digests(coarsen(profiles.digests, wanted), wanted.digests)
    return profiles._replace(digests=digests, level=level)


def coarsen(digests: Digests, level: Level) -> Digests:
    """Keep of every digest what a level keeps.

    Args:
        digests: of the same or a finer level.
        level: the level.

    Returns:
        As many digests.
    """
    coarse = digests._replace(
        shingles=coarse_shingles(digests.shingles, digests.n_asked, level),
        n_asked=np.minimum(digests.n_asked, level.shingles).astype(np.int16),
        words=digests.words.heads(level.words),
        lines=digests.lines.heads(level.lines),
    )
    if level.has_text:
        return coarse
    blank = blank_texts(len(digests.key))
    return coarse._replace(exchange_id=blank, excerpt=blank)


def coarse_shingles(shingles: Ragged, n_asked: NDArray[np.int16], level: Level) -> Ragged:
    """Keep of skeletons what a level keeps.

    Args:
        shingles: as in `Digests`, of the same or a finer level.
        n_asked: how many of each row are the question's.
        level: the level.

    Returns:
        As many rows.
    """
    from stillwatch.text.runs import copy_runs

    # Two runs a row: of the question's shingles, and of the system prompt's behind them.
    asked = n_asked.astype(np.int64)
    begins = np.stack([shingles.offsets[:-1], shingles.offsets[:-1] + asked], axis=1).ravel()
    kept = np.minimum(asked, level.shingles)
    kept_told = np.minimum(shingles.lengths - asked, level.system_shingles)
    lengths = np.stack([kept, kept_told], axis=1)
    offsets = starts_of(lengths.ravel())
    return Ragged(copy_runs(shingles.values, begins, offsets), offsets[::2])


def blank_texts(n_rows: int) -> pa.Array:
    """Make a column of empty texts.

    Args:
        n_rows: how many.

    Returns:
        The column, large strings.
    """
    offsets = pa.py_buffer(np.zeros(n_rows + 1, dtype=np.int64))
    return pa.LargeStringArray.from_buffers(n_rows, offsets, pa.py_buffer(b""))
