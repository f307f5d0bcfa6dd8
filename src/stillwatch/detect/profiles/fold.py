"""Fold: from batches of exchanges to profiles, in one pass and bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.evidence.flags import add_flags, question_flags
from stillwatch.detect.profiles.levels import Level, coarse_shingles, coarsen, level_for, levels_of
from stillwatch.detect.profiles.profile import (
    Digests,
    Ints,
    Profiles,
    Totals,
    no_digests,
    no_totals,
    unite_digests,
)
from stillwatch.errors import reject
from stillwatch.text.features import Embedder, add_features, embedded_features, question_features

if TYPE_CHECKING:
    from stillwatch.detect.profiles.digest import Lot, Skeletons
    from stillwatch.detect.profiles.tape import TapeRows

#: Columns of the store that `fold` reads; the first three it cannot do without.
COLUMNS = (
    "exchange_id", "account", "started_at", "model", "messages", "parameters", "tools_hash",
    "input_tokens", "output_tokens", "status", "org", "network_hash", "user_agent", "action",
)  # fmt: skip
#: Exchanges folded together: enough that what Python does for each lot does not count, few enough
#: that their words stay in the processor's cache.
_LOT = 4096
#: Digests that wait before they are united with those kept, at least, and as a share of the kept.
_WAIT_LEAST, _WAIT_SHARE = 200_000, 0.4
#: Actions of a wall after which a question got no answer.
_REFUSALS = ("throttle", "challenge", "block")


class Tape(Protocol):
    """Whatever takes down a row for every exchange; see `tape`."""

    def write(self, rows: TapeRows) -> None:
        """Take rows down.

        Args:
            rows: any number.
        """


def fold(
    batches: Iterable[pa.RecordBatch],
    config: FoldConfig | None = None,
    *,
    tape: Tape | None = None,
    embedder: Embedder | None = None,
) -> Profiles:
    """Read exchanges once and keep what finding campaigns needs.

    Exchanges without an account are left out: nothing can be said about who asked them.

    Args:
        batches: rows of the store's schema, or of those columns of it named in `COLUMNS`.
        config: what is kept.
        tape: takes down every exchange, for the lists of campaigns.
        embedder: gives the features of questions in place of hashed ones.

    Returns:
        Profiles of all accounts.

    Raises:
        InvalidInputError: a column that is needed is absent.
    """
    folding = Folding(config, tape=tape, embedder=embedder)
    for batch in batches:
        folding.update(batch)
    return folding.profiles()


class Folding:
    """A fold that is under way.

    Args:
        config: what is kept.
        tape: takes down every exchange.
        embedder: gives the features of questions in place of hashed ones.
    """

    def __init__(
        self,
        config: FoldConfig | None = None,
        *,
        tape: Tape | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        from stillwatch.detect.profiles.digest import LotReader

        self._config = config or FoldConfig()
        self._levels = levels_of(self._config)
        self._reader, self._tape, self._embedder = LotReader(self._config), tape, embedder
        self._number: dict[str, int] = {}
        self._totals, self._is_shared = no_totals(0), False
        # Digests that each level would keep, and the level that follows from them.
        self._n_kept_at = np.zeros(len(self._levels), np.int64)
        self._level = 0
        self._kept, self._waiting = no_digests(), list[Digests]()
        # An exchange with a larger key than its account's largest kept one leaves no digest.
        self._largest = np.empty(0, np.uint64)

    def update(self, batch: pa.RecordBatch) -> None:
        """Fold exchanges in.

        Args:
            batch: rows of the store's schema, or of those columns of it named in `COLUMNS`.

        Raises:
            InvalidInputError: a column that is needed is absent.
        """
        batch = _usable(batch)
        for start in range(0, batch.num_rows, _LOT):
            self._fold_lot(batch.slice(start, _LOT))
            n_waiting = sum(len(part.key) for part in self._waiting)
            if n_waiting > max(_WAIT_LEAST, _WAIT_SHARE * len(self._kept.key)):
                self._unite()

    def profiles(self) -> Profiles:
        """Give what was folded so far.

        Returns:
            Profiles of all accounts.
        """
        names = self._sort_accounts()
        self._unite()
        self._is_shared = True
        return Profiles(names, self._totals, self._kept, self._level)

    def _fold_lot(self, batch: pa.RecordBatch) -> None:
        from stillwatch.detect.profiles.digest import digests_of, skeletons_of

        lot = self._reader.read(batch, self._number_accounts(batch["account"]))
        self._add(lot)
        level, config = self._levels[self._level], self._config
        rows = np.flatnonzero(lot.key <= self._largest[lot.account])
        if self._tape is not None:
            every = np.arange(len(lot.key))
            skeletons = skeletons_of(lot, every, config=config, level=level)
            self._tape.write(_tape_rows(lot, skeletons, self._levels[-1]))
            skeletons = skeletons.take(rows)
        else:
            skeletons = skeletons_of(lot, rows, config=config, level=level)
        self._waiting.append(digests_of(lot, rows, skeletons, config=config, level=level))

    def _number_accounts(self, column: pa.Array) -> Ints:
        encoded = column.dictionary_encode()
        table = self._number
        names = encoded.dictionary.to_pylist()
        numbers = list(map(table.get, names))
        if None in numbers:
            numbers = [table.setdefault(name, len(table)) for name in names]
        n, room = len(table), len(self._largest)
        if n > room or self._is_shared:
            wider = no_totals(max(n, room + room // 2 if n > room else room))
            columns: Any = zip(wider, self._totals, strict=True)
            for into, known in columns:
                into[:room] = known
            self._totals, self._is_shared = wider, False
            largest = np.full(len(wider.exchanges), np.iinfo(np.uint64).max, np.uint64)
            largest[:room] = self._largest
            self._largest = largest
        indices: Ints = encoded.indices.to_numpy(zero_copy_only=False)
        return np.array(numbers, dtype=np.int64)[indices]

    def _add(self, lot: Lot) -> None:
        """Add a lot to the totals, and coarsen what is kept when that makes it too much."""
        from stillwatch.detect.profiles.order import add_exchanges

        limits = np.array([level.digests for level in self._levels])
        self._n_kept_at += add_exchanges(
            self._totals, lot.account, lot.started_at, counts=lot.counts, limits=limits
        )
        words, totals = lot.words, self._totals
        add_flags(question_flags(words.masked, words.starts), lot.account, totals.flags)
        add_features(self._features(lot), lot.account, totals.kernel)
        level = level_for(self._n_kept_at, self._config)
        if level > self._level:
            self._level = level
            self._kept = coarsen(self._kept, self._levels[level])
            for number, part in enumerate(self._waiting):
                self._waiting[number] = coarsen(part, self._levels[level])
            self._unite()

    def _features(self, lot: Lot) -> NDArray[np.int8]:
        question, words = lot.question, lot.words
        if self._embedder is None:
            return question_features(*question, words=words.masked, word_starts=words.starts)
        from stillwatch.detect.profiles.columns import column_of
        from stillwatch.text.kernels import gather_texts

        texts = column_of(*gather_texts(question))
        return embedded_features(self._embedder(texts.to_pylist()))

    def _unite(self) -> None:
        """Unite the digests that wait with those kept."""
        limit = self._levels[self._level].digests
        parts = [self._kept, *self._waiting]
        self._kept, self._waiting = no_digests(), []
        self._kept = unite_digests(parts, limit)
        counts = np.bincount(self._kept.account, minlength=len(self._largest))
        full = counts >= limit
        self._largest[full] = self._kept.key[np.cumsum(counts)[full] - 1]

    def _sort_accounts(self) -> pa.Array:
        """Number accounts by name; give the names."""
        names = pa.array(self._number, pa.large_string())
        order = pc.sort_indices(names).to_numpy(zero_copy_only=False).astype(np.int64)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        names = names.take(pa.array(order))
        self._number = {name: number for number, name in enumerate(names.to_pylist())}
        columns: list[Any] = [column[order] for column in self._totals]
        self._totals, self._largest = Totals(*columns), self._largest[order]
        self._kept = self._kept._replace(account=place[self._kept.account])
        self._waiting = [part._replace(account=place[part.account]) for part in self._waiting]
        return names


def _tape_rows(lot: Lot, skeletons: Skeletons, level: Level) -> TapeRows:
    from stillwatch.detect.profiles.tape import TapeRows

    batch = lot.batch
    return TapeRows(
        exchange_id=batch["exchange_id"],
        account=batch["account"],
        started_at=lot.started_at,
        input_tokens=lot.counts[0],
        output_tokens=lot.counts[1],
        system=lot.system_hash,
        shingles=coarse_shingles(skeletons.shingles, skeletons.n_asked, level),
    )


def _usable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Take the columns that are read, of the exchanges that count."""
    for name in ("exchange_id", "account", "started_at"):
        if name not in batch.schema.names:
            reject("fold", "columns", f"there, {name!r} among them", got=batch.schema.names)
    batch = batch.select([name for name in COLUMNS if name in batch.schema.names])
    for name in ("account", "action"):
        place = batch.schema.get_field_index(name)
        if place >= 0 and pa.types.is_dictionary(batch[name].type):
            batch = batch.set_column(place, name, batch[name].cast(pa.large_string()))
    known = pc.fill_null(pc.not_equal(batch["account"], ""), False)
    if "action" in batch.schema.names:
        # What a wall refused is asked again by other members, and would hide that a queue hands
        # each question out once.
        refused = pc.is_in(batch["action"], pa.array(_REFUSALS, batch["action"].type))
        known = pc.and_(known, pc.invert(refused))
    return batch if pc.all(known).as_py() else batch.filter(known)
