"""The tape: one short row for every exchange, so that a campaign can list all of its own.

Profiles keep a sample of an account's exchanges. What finding needs is in the sample; what was
taken is not. So while a log is folded, each exchange leaves its time, its tokens and the smallest
shingles of its wording on the tape, and after campaigns are found one pass over it says which
exchanges carry their wording. A tape is a folder of Arrow streams, about 150 bytes an exchange.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stillwatch.errors import RecordError, StillwatchError
from stillwatch.record.disk import from_os_error
from stillwatch.text.ragged import Ragged

#: The columns of a tape.
SCHEMA = pa.schema([
    ("exchange_id", pa.string()),
    ("account", pa.string()),
    ("started_at", pa.float64()),
    ("input_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
    ("system", pa.uint64()),
    ("shingles", pa.list_(pa.uint32())),
])
#: The columns of an attribution: those of the tape that say who, when and how much, and the family.
ATTRIBUTED = pa.schema([
    ("exchange_id", pa.string()),
    ("account", pa.string()),
    ("family", pa.int32()),
    ("carried", pa.int32()),
    ("started_at", pa.float64()),
    ("input_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
])
_ENDING = ".tape"


class TapeRows(NamedTuple):
    """Exchanges as they go onto a tape, one row each.

    Attributes:
        exchange_id: as the log gave it, strings.
        account: as the log gave it, strings or dictionary-encoded strings.
        started_at: epoch seconds, float64.
        input_tokens: tokens of the question (count), int64.
        output_tokens: tokens of the answer (count), int64.
        system: hash of the system prompt, 0 when there is none, uint64.
        shingles: the smallest shingles of the wording, uint32.
    """

    exchange_id: pa.Array
    account: pa.Array
    started_at: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    system: NDArray[np.uint64]
    shingles: Ragged


class Wording(NamedTuple):
    """The wording that campaigns are known by.

    Attributes:
        shingles: distinct shingles, one row a family, uint32; none in two families.
        least: shingles of a family that an exchange must carry to belong to it, shape
            (n_families,), float64; never below 1.
    """

    shingles: Ragged
    least: NDArray[np.float64]


class Taken(NamedTuple):
    """What a campaign took, all of its exchanges counted.

    Attributes:
        exchanges: how many.
        input_tokens: tokens of its questions (count).
        output_tokens: tokens of the answers it got (count).
        first_seen: start of the first, epoch seconds.
        last_seen: start of the last, epoch seconds.
    """

    exchanges: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_seen: float = np.inf
    last_seen: float = -np.inf


class TapeWriter:
    """Writes one part of a tape; several may write into one folder under different names.

    Args:
        folder: the tape; made if absent.
        part: this part's name; a tape is read in the order of the names.

    Raises:
        EnvironmentUnfitError: the disk is full or the folder cannot be written.
    """

    def __init__(self, folder: Path, part: str = "000000") -> None:
        self.folder = Path(folder)
        self._path = self.folder / f"{part}{_ENDING}"
        self.n_rows = 0
        with _translated(self._path):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sink = pa.OSFile(str(self._path), "wb")
            self._stream = pa.ipc.new_stream(self._sink, SCHEMA)

    def write(self, rows: TapeRows) -> None:
        """Put exchanges on the tape.

        Args:
            rows: any number.

        Raises:
            EnvironmentUnfitError: the disk is full.
        """
        shingles = pa.ListArray.from_arrays(
            pa.array(rows.shingles.offsets.astype(np.int32)),
            pa.array(rows.shingles.values.astype(np.uint32, copy=False)),
        )
        columns = [
            rows.exchange_id.cast(pa.string()),
            rows.account.cast(pa.string()),
            pa.array(rows.started_at),
            pa.array(rows.input_tokens),
            pa.array(rows.output_tokens),
            pa.array(rows.system),
            shingles,
        ]
        with _translated(self._path):
            self._stream.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        self.n_rows += len(shingles)

    def close(self) -> None:
        """End the part; it can be read now."""
        with _translated(self._path):
            self._stream.close()
            self._sink.close()

    def __enter__(self) -> TapeWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_tape(folder: Path) -> Iterator[pa.RecordBatch]:
    """Read a tape in bounded memory.

    Args:
        folder: the tape.

    Yields:
        Batches of `SCHEMA`, in the order of the parts' names, then of writing.

    Raises:
        RecordError: a part is cut off or is no part of a tape.
    """
    for path in sorted(Path(folder).glob(f"*{_ENDING}")):
        with (
            _translated(path),
            pa.OSFile(str(path), "rb") as file,
            pa.ipc.open_stream(file) as stream,
        ):
            yield from stream


def attribute(folder: Path, wording: Wording) -> Iterator[pa.RecordBatch]:
    """Find every exchange that carries the wording of a family.

    Args:
        folder: the tape.
        wording: the families.

    Yields:
        Batches of `ATTRIBUTED`, in the tape's order: the exchanges that belong to a family, each
        once, with the family most of whose shingles it carries.

    Raises:
        RecordError: a part of the tape cannot be read.
    """
    if not len(wording.shingles):
        return
    from stillwatch.detect.discovery.wording import WordingTable

    table = WordingTable(wording.shingles, np.maximum(wording.least, 1.0))
    for batch in read_tape(folder):
        family, carried = table.family_of(_ragged(batch["shingles"]))
        rows = np.flatnonzero(family >= 0)
        if not len(rows):
            continue
        picked = {
            name: batch[name].take(pa.array(rows))
            for name in ATTRIBUTED.names
            if name in SCHEMA.names
        }
        picked |= {"family": pa.array(family[rows]), "carried": pa.array(carried[rows])}
        yield pa.RecordBatch.from_arrays(
            [picked[name] for name in ATTRIBUTED.names], schema=ATTRIBUTED
        )


def least_carried(
    shingles: Ragged, family: NDArray[np.int64], wording: Ragged, *, share: float
) -> NDArray[np.float64]:
    """Say how much of its family's wording an exchange must carry to belong to it.

    Args:
        shingles: what the tape would hold of the exchanges that made the families, one row each.
        family: family of each of those exchanges, -1 for none.
        wording: shingles of each family, one row a family.
        share: of what the family's exchanges carry in the mean.

    Returns:
        Shingles, shape (n_families,), never below 1.
    """
    from stillwatch.detect.discovery.wording import WordingTable

    n_families = len(wording)
    table = WordingTable(wording, np.ones(n_families))
    rows = np.flatnonzero(family >= 0)
    found, carried = table.family_of(shingles.take(rows))
    right = found == family[rows]
    size = np.bincount(family[rows], minlength=n_families)
    total = np.bincount(family[rows], weights=carried * right, minlength=n_families)
    least: NDArray[np.float64] = np.maximum(1.0, share * total / np.maximum(size, 1))
    return least


def write_exchanges(
    path: Path, batches: Iterable[pa.RecordBatch], *, campaign_of: Sequence[str]
) -> dict[str, Taken]:
    """Write down every exchange of the campaigns, and add up what each took.

    Args:
        path: a Parquet file; it appears when it is whole.
        batches: what `attribute` gives.
        campaign_of: campaign id of each family.

    Returns:
        By campaign id, what it took; campaigns without any exchange are there with zeros.

    Raises:
        EnvironmentUnfitError: the disk is full or the folder cannot be written.
    """
    names = pa.array(campaign_of, pa.string())
    ids, number = np.unique(np.array(campaign_of, dtype=object), return_inverse=True)
    taken = {str(name): Taken() for name in ids}
    schema = ATTRIBUTED.insert(2, pa.field("campaign_id", pa.string()))
    hidden = path.with_name(f".{path.name}.part")
    with _translated(path), _removed(hidden):
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(hidden, schema, compression="zstd") as file:
            for batch in batches:
                family = batch["family"].to_numpy()
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                columns["campaign_id"] = names.take(pa.array(family))
                file.write_batch(
                    pa.RecordBatch.from_arrays([columns[n] for n in schema.names], schema=schema)
                )
                _add(taken, batch, ids=ids, number=number[family])
        hidden.replace(path)
    return taken


def _add(
    taken: dict[str, Taken],
    batch: pa.RecordBatch,
    *,
    ids: NDArray[np.object_],
    number: NDArray[np.int64],
) -> None:
    times = batch["started_at"].to_numpy()
    tokens = [batch[name].to_numpy() for name in ("input_tokens", "output_tokens")]
    for campaign in np.unique(number).tolist():
        mine = number == campaign
        before = taken[str(ids[campaign])]
        taken[str(ids[campaign])] = Taken(
            before.exchanges + int(mine.sum()),
            before.input_tokens + int(tokens[0][mine].sum()),
            before.output_tokens + int(tokens[1][mine].sum()),
            min(before.first_seen, float(times[mine].min())),
            max(before.last_seen, float(times[mine].max())),
        )


def _ragged(lists: pa.ListArray) -> Ragged:
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return Ragged(lists.flatten().to_numpy(), offsets - offsets[0])


@contextlib.contextmanager
def _removed(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except StillwatchError:
        raise
    except pa.ArrowInvalid as error:
        message = f"{path}: a part of the tape must be whole, and is not"
        raise RecordError(message, hint="read the log again") from error
    except OSError as error:
        raise from_os_error(error, path=path, doing="keep the tape") from error
