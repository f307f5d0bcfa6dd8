"""Says what a log holds, and what its gaps cost: which parts of detection cannot work on it."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from stillwatch.logs.envelope import UNKNOWN_TIME
from stillwatch.record.exchange import ARROW_SCHEMA

#: Fields that are counted, in the order they are shown; `question` and `system` are turns.
FIELDS = (
    "account", "question", "system", "answers", "model", "model_returned", "parameters",
    "tools_hash", "input_tokens", "output_tokens", "first_output_at", "ended_at", "org",
    "key_hash", "ip_hash", "network_hash", "user_agent", "session", "error",
)  # fmt: skip
#: Field -> what is lost without it.
COSTS: dict[str, str] = {
    "account": "nobody can be named: detect leaves exchanges without an account out",
    "question": "no rare shared wording, no repeated questions: webs cannot be found from texts",
    "system": "a pipeline's system prompt cannot link its accounts",
    "answers": "trace cannot look up what was served; detect does not need it",
    "parameters": "equal sampling settings cannot link accounts",
    "tools_hash": "equal tool definitions cannot link accounts",
    "output_tokens": "volume is not known: a campaign's size is given in exchanges only",
    "org": "accounts of one honest organisation cannot be told from a web that shares its wording",
    "network_hash": "accounts behind one network cannot be linked by it",
    "user_agent": "client software cannot link accounts",
    "ended_at": "how long answers took is not known",
}
_NEVER_A_GAP = frozenset({"error"})
_MOST_MODELS = 20
_FRESH = 2**14  # accounts that are looked up together at least
_FEW = 0.05  # share of exchanges under which a field counts as nearly missing


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a log holds.

    Attributes:
        exchanges: exchanges (count).
        accounts: different accounts (count).
        untimed: exchanges whose time the log does not tell; they are in no span (count).
        first_at: earliest known start (UTC epoch seconds), None when there is none.
        last_at: latest known start.
        output_tokens: tokens of all answers where told (count).
        refused: exchanges with a status of 400 or more, or none (count).
        streamed: exchanges streamed (count).
        models: model -> exchanges, the most used ones.
        wires: wire -> exchanges.
        fields: field -> share of exchanges that have it, 0..1.
        costs: field that is missing or nearly so -> what that costs.
    """

    exchanges: int
    accounts: int
    untimed: int
    first_at: float | None
    last_at: float | None
    output_tokens: int
    refused: int
    streamed: int
    models: dict[str, int]
    wires: dict[str, int]
    fields: dict[str, float]
    costs: dict[str, str]


class Holdings:
    """Sums over batches; 8 bytes an account are all that grows."""

    def __init__(self) -> None:
        self._n = self._untimed = 0
        self._have: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._wires: Counter[str] = Counter()
        self._accounts = np.zeros(0, dtype=np.uint64)
        self._fresh: list[int] = []  # accounts, some of them counted already
        self._span = (np.inf, -np.inf)
        self._tokens = self._refused = self._streamed = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch.

        Args:
            batch: of the store's schema.
        """
        if not batch.num_rows:
            return
        self._n += batch.num_rows
        for name in FIELDS:
            if name in ARROW_SCHEMA.names:
                self._have[name] += _filled(batch[name])
        for name, role in (("question", "user"), ("system", "system")):
            self._have[name] += _turns(batch["messages"], role)
        for counter, name in ((self._models, "model"), (self._wires, "wire")):
            for item in pc.value_counts(batch[name]).to_pylist():
                counter[item["values"] or ""] += item["counts"]
        names = [name for name in pc.unique(batch["account"]).to_pylist() if name]
        self._fresh += [xxhash.xxh3_64_intdigest(name.encode()) for name in names]
        if len(self._fresh) > max(_FRESH, len(self._accounts) // 2):
            self._count_accounts()
        times = batch["started_at"].to_numpy()
        known = times[times != UNKNOWN_TIME]
        self._untimed += len(times) - len(known)
        if len(known):
            self._span = (
                min(self._span[0], float(known.min())),
                max(self._span[1], float(known.max())),
            )
        self._tokens += pc.sum(batch["output_tokens"]).as_py() or 0
        status = batch["status"].to_numpy(zero_copy_only=False)
        self._refused += int(((status >= 400) | (status == 0)).sum())
        self._streamed += pc.sum(batch["streamed"]).as_py() or 0

    def describe(self) -> Description:
        """Say what has been taken.

        Returns:
            The description.
        """
        self._count_accounts()
        shares = {name: self._have[name] / self._n if self._n else 0.0 for name in FIELDS}
        gaps = [name for name in FIELDS if shares[name] < _FEW and name not in _NEVER_A_GAP]
        return Description(
            exchanges=self._n,
            accounts=len(self._accounts),
            untimed=self._untimed,
            first_at=self._span[0] if self._n > self._untimed else None,
            last_at=self._span[1] if self._n > self._untimed else None,
            output_tokens=self._tokens,
            refused=self._refused,
            streamed=self._streamed,
            models=dict(self._models.most_common(_MOST_MODELS)),
            wires=dict(self._wires.most_common()),
            fields=shares,
            costs={name: COSTS[name] for name in gaps if name in COSTS} if self._n else {},
        )

    def _count_accounts(self) -> None:
        fresh = np.array(self._fresh, dtype=np.uint64)
        self._accounts, self._fresh = np.union1d(self._accounts, fresh), []


def _filled(column: pa.Array) -> int:
    if pa.types.is_list(column.type):
        return _not_empty(pc.list_value_length(column))
    if column.type == pa.string():
        # As parameters rest when there are none; no other field has this text.
        n_empty = pc.sum(pc.equal(column, "{}")).as_py() or 0
        return _not_empty(pc.binary_length(column)) - n_empty
    return len(column) - int(column.null_count)


def _not_empty(lengths: pa.Array) -> int:
    return int(np.count_nonzero(lengths.fill_null(0).to_numpy(zero_copy_only=False)))


def _turns(messages: pa.Array, role: str) -> int:
    flat = messages.flatten()
    said = pc.and_(pc.equal(flat.field("role"), role), pc.not_equal(flat.field("content"), ""))
    rows = pc.list_parent_indices(messages).filter(pc.fill_null(said, False))
    return int(pc.count_distinct(rows).as_py())
