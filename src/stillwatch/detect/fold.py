"""Fold: from batches of exchanges to profiles, a whole batch at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.profile import (
    Digests,
    Floats,
    Ints,
    Profiles,
    Totals,
    bound_digests,
    merge_all,
    no_profiles,
)
from stillwatch.errors import reject
from stillwatch.text.ragged import Hashes, Ragged
from stillwatch.text.tokens import bigrams, hash_rows, shingle, tokenize

#: Columns of the store that `fold` reads; the first three it cannot do without.
COLUMNS = (
    "exchange_id", "account", "started_at", "model", "messages", "parameters", "tools_hash",
    "output_tokens", "status", "org", "network_hash", "user_agent",
)  # fmt: skip
#: Batches folded before they are merged: bounds memory, and keeps merging cheap.
_MERGE_EVERY = 16


#: Actions of a wall after which a question got no answer.
_REFUSALS = ("throttle", "challenge", "block")


def fold(batches: Iterable[pa.RecordBatch], config: FoldConfig | None = None) -> Profiles:
    """Read exchanges once and keep what finding campaigns needs.

    Exchanges without an account are left out: nothing can be said about who asked them.

    Args:
        batches: rows of the store's schema, or of those columns of it named in `COLUMNS`.
        config: what is kept.

    Returns:
        Profiles of all accounts.

    Raises:
        InvalidInputError: a column that is needed is absent.
    """
    config = config or FoldConfig()
    whole, waiting = no_profiles(), list[Profiles]()
    for batch in batches:
        if batch.num_rows:
            waiting.append(_fold_batch(batch, config))
        if len(waiting) == _MERGE_EVERY:
            whole = merge_all([whole, *waiting], digests_per_account=config.digests_per_account)
            waiting = []
    return merge_all([whole, *waiting], digests_per_account=config.digests_per_account)


def _fold_batch(batch: pa.RecordBatch, config: FoldConfig) -> Profiles:
    for name in ("exchange_id", "account", "started_at"):
        if name not in batch.schema.names:
            reject("fold", "columns", f"there, {name!r} among them", got=batch.schema.names)
    known = pc.fill_null(pc.not_equal(batch["account"], ""), False)
    batch = batch.filter(known)
    if "action" in batch.schema.names:
        # What a wall refused is asked again by other members, and would hide that a queue hands
        # each question out once.
        refused = pc.fill_null(pc.is_in(batch["action"], pa.array(_REFUSALS)), False)
        batch = batch.filter(pc.invert(refused))
    if not batch.num_rows:
        return no_profiles()
    accounts = pc.unique(batch["account"].cast(pa.large_string()))
    accounts = accounts.take(pc.sort_indices(accounts))
    number = pc.index_in(batch["account"].cast(pa.large_string()), value_set=accounts)
    index = number.to_numpy(zero_copy_only=False).astype(np.int64)
    digests = _digest(batch, index, config)
    status = _integers(batch, "status", 200)
    return Profiles(
        accounts,
        _totals(digests, status, n_accounts=len(accounts)),
        bound_digests(digests, config.digests_per_account),
    )


def _totals(digests: Digests, status: Ints, *, n_accounts: int) -> Totals:
    def added(values: NDArray[np.int64]) -> Ints:
        total = np.zeros(n_accounts, dtype=np.int64)
        np.add.at(total, digests.account, values)
        return total

    first, last = np.full(n_accounts, np.inf), np.full(n_accounts, -np.inf)
    np.minimum.at(first, digests.account, digests.started_at)
    np.maximum.at(last, digests.account, digests.started_at)
    ones = np.ones(len(digests.account), dtype=np.int64)
    refused = (status >= 400).astype(np.int64)
    return Totals(added(ones), added(digests.output_tokens), added(refused), first, last)


def _digest(batch: pa.RecordBatch, account: Ints, config: FoldConfig) -> Digests:
    question, system = _texts(batch)
    question = pc.utf8_slice_codeunits(question, 0, config.question_chars)
    lines = pc.split_pattern(question, "\n")
    tokens = tokenize(lines.values, max_bytes=4 * config.question_chars)
    line_offsets = lines.offsets.to_numpy().astype(np.int64)
    line_hashes = hash_rows(tokens.exact)
    filled = Ragged(line_hashes, line_offsets).keep(line_hashes != 0)
    masked = Ragged(tokens.masked.values, tokens.masked.offsets[line_offsets])
    exact = Ragged(tokens.exact.values, tokens.exact.offsets[line_offsets])
    skeleton = _skeleton(masked, system, config)
    return Digests(
        account=account,
        key=_hash_column(batch["exchange_id"]),
        started_at=_floats(batch, "started_at"),
        output_tokens=_integers(batch, "output_tokens", 0),
        text=hash_rows(exact),
        system=_hash_column(system),
        setup=_hash_pair(_column(batch, "model"), _column(batch, "parameters")),
        tools=_hash_column(_column(batch, "tools_hash")),
        network=_hash_column(_column(batch, "network_hash")),
        agent=_hash_column(_column(batch, "user_agent")),
        org=_hash_column(_column(batch, "org")),
        exchange_id=batch["exchange_id"].cast(pa.large_string()),
        excerpt=pc.utf8_slice_codeunits(question, 0, config.excerpt_chars),
        shingles=skeleton.smallest_distinct(2 * config.shingles_kept),
        words=_words(masked).smallest_distinct(config.words_kept),
        lines=filled.smallest_distinct(config.lines_kept),
    )


def _skeleton(question: Ragged, system: pa.Array, config: FoldConfig) -> Ragged:
    """Shingle question and system prompt: a pipeline's wording may stand in either.

    Each has its own window and its own share, or a long system prompt would hide the question.
    """
    system = pc.utf8_slice_codeunits(system, 0, config.question_chars)
    ordered = tokenize(system, max_bytes=4 * config.question_chars).masked
    parts = [
        shingle(words, width=config.shingle_width, max_tokens=config.shingle_tokens)
        for words in (question, ordered)
    ]
    return _beside(*(part.smallest_distinct(config.shingles_kept) for part in parts))


def _words(masked: Ragged) -> Ragged:
    return _beside(masked, bigrams(masked))


def _beside(first: Ragged, second: Ragged) -> Ragged:
    """Lay the rows of two side by side."""
    both = Ragged.concatenate([first, second])
    order = np.argsort(np.concatenate((first.rows, second.rows)), kind="stable")
    return Ragged(both.values[order], first.offsets + second.offsets)


def _texts(batch: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    """Give the last user turn and the joined system turns of each row, as large strings."""
    n_rows = batch.num_rows
    if "messages" not in batch.schema.names:
        blank = pa.array([""] * n_rows, pa.large_string())
        return blank, blank
    messages = batch["messages"]
    parents = pc.list_parent_indices(messages).to_numpy().astype(np.int64)
    flat = messages.flatten()
    roles, contents = flat.field("role"), flat.field("content").cast(pa.large_string())
    is_user = pc.fill_null(pc.equal(roles, "user"), False).to_numpy(zero_copy_only=False)
    is_system = pc.fill_null(pc.equal(roles, "system"), False).to_numpy(zero_copy_only=False)
    last = np.full(n_rows, -1, dtype=np.int64)
    positions = np.flatnonzero(is_user)
    last[parents[positions]] = positions
    question = pc.fill_null(contents.take(pa.array(last, mask=last < 0)), "")
    positions = np.flatnonzero(is_system)
    order = np.full(n_rows, -1, dtype=np.int64)
    order[parents[positions]] = positions
    system = pc.fill_null(contents.take(pa.array(order, mask=order < 0)), "")
    if len(positions) != len(np.unique(parents[positions])):
        system = _joined(contents, positions, parents=parents, n_rows=n_rows)
    return question, system


def _joined(contents: pa.Array, positions: Ints, *, parents: Ints, n_rows: int) -> pa.Array:
    parts: list[list[str]] = [[] for _ in range(n_rows)]
    texts = contents.take(pa.array(positions)).to_pylist()
    for row, text in zip(parents[positions].tolist(), texts, strict=True):
        parts[row].append(text or "")
    return pa.array(["\n".join(part) for part in parts], pa.large_string())


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name in batch.schema.names:
        return batch[name]
    return pa.nulls(batch.num_rows, pa.large_string())


def _hash_column(column: pa.Array) -> Hashes:
    """Hash strings, each distinct one once; null and empty give 0."""
    encoded = column.cast(pa.large_string()).fill_null("").dictionary_encode()
    texts = encoded.dictionary.cast(pa.large_binary()).to_pylist()
    values = [xxhash.xxh3_64_intdigest(text) if text else 0 for text in texts]
    hashes: Hashes = np.array(values, dtype=np.uint64)
    indices: Ints = encoded.indices.to_numpy(zero_copy_only=False)
    return hashes[indices]


def _hash_pair(first: pa.Array, second: pa.Array) -> Hashes:
    odd = np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(_hash_column(first) * odd + _hash_column(second), dtype=np.uint64)


def _integers(batch: pa.RecordBatch, name: str, missing: int) -> Ints:
    if name not in batch.schema.names:
        return np.full(batch.num_rows, missing, dtype=np.int64)
    column = batch[name].cast(pa.int64()).fill_null(missing)
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)


def _floats(batch: pa.RecordBatch, name: str) -> Floats:
    return np.asarray(batch[name].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=float)
