"""Folding on Spark: the same fold and the same merge, so the same profiles byte for byte.

A first job counts exchanges by account, which settles how finely the whole log can be kept. Then
every task folds the rows of its partition as they come (`mapInArrow`), cuts its profiles by account
into buckets and hands each on as one value; buckets are brought together and merged where they
meet, and the driver puts them side by side. What is shuffled are profiles, not exchanges. The
package must be installed on the workers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.engines.spark_session import session_for
from stillwatch.detect.engines.spark_tape import TapeParts
from stillwatch.detect.profiles.fold import COLUMNS, fold
from stillwatch.detect.profiles.levels import at_level, levels_of
from stillwatch.detect.profiles.merge import merge_all
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.detect.profiles.tables import pack, unpack
from stillwatch.errors import RecordError, extra, reject
from stillwatch.text.features import Embedder

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Pieces that the accounts are cut into. A piece travels as one value, of which Spark allows 2 GB:
#: sixteen keep a task's share of full profiles (2 GiB of digests, 1.5 KB of sums an account) far
#: below that.
N_BUCKETS = 16
_NEEDED = ("exchange_id", "account", "started_at")
_REFUSALS = ("throttle", "challenge", "block")
#: What tasks hand on: profiles of a bucket, and once a task the part of the tape that it wrote.
_PACKED = pa.schema([("bucket", pa.int32()), ("packed", pa.binary()), ("tape", pa.string())])
_PACKED_SQL = "bucket int, packed binary, tape string"
_Mapping = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class _Job(NamedTuple):
    """What every task is told."""

    config: FoldConfig
    n_buckets: int
    tape: TapeParts | None = None
    embedder: Embedder | None = None
    level: int = 0


def fold_spark(
    source: DataFrame | Sequence[str | Path],
    config: FoldConfig | None = None,
    *,
    session: SparkSession | None = None,
    tape: Path | None = None,
    embedder: Embedder | None = None,
    n_buckets: int = N_BUCKETS,
) -> Profiles:
    """Fold exchanges on Spark.

    Args:
        source: rows of the store's schema, or paths of stores or Parquet files that the workers
            can read.
        config: what is kept.
        session: where to read paths; None takes the active session, or starts a local one for
            this call.
        tape: a folder for the tape that workers and driver share; None keeps none.
        embedder: gives the features of questions in place of hashed ones; sent to the workers.
        n_buckets: pieces that the accounts are cut into, which are merged at once.

    Returns:
        What `fold` gives for the same exchanges, in any partitioning.

    Raises:
        InvalidInputError: a column that is needed is absent, or no path is given.
        MissingExtraError: pyspark is not installed.
        EnvironmentUnfitError: there is no Java, or the tape cannot be written.
        RecordError: a path cannot be read, or a task failed.
    """
    config = config or FoldConfig()
    parts = None if tape is None else TapeParts(str(Path(tape).resolve()))
    job = _Job(config, n_buckets, parts, embedder)
    if not isinstance(source, str | Path | Sequence):
        return _fold_frame(source, job)
    paths = [str(path) for path in ([source] if isinstance(source, str | Path) else source)]
    if not paths:
        reject("fold_spark", "source", "a DataFrame, or at least one path", got=paths)
    with session_for(session) as used:
        return _fold_frame(_read(used, paths), job)


def _read(session: SparkSession, paths: list[str]) -> DataFrame:
    message = f"{', '.join(paths)}: must be Parquet that Spark can read, and is not"
    hint = "`stillwatch logs convert` makes a store of any known log"
    with _translated(message, hint=hint):
        # what one file has and another lacks is null there; a store holds other files too
        reader = session.read.option("mergeSchema", "true")
        return reader.option("pathGlobFilter", "*.{parquet,pq}").parquet(*paths)


def _fold_frame(frame: DataFrame, job: _Job) -> Profiles:
    for name in _NEEDED:
        if name not in frame.columns:
            reject("fold_spark", "columns", f"there, {name!r} among them", got=frame.columns)
    frame = frame.select(*[name for name in COLUMNS if name in frame.columns])
    with _translated():
        job = job._replace(level=_level_of(frame, job.config))
        folded = frame.mapInArrow(_folding(job), _PACKED_SQL)
        merged = folded.repartition(job.n_buckets, "bucket").mapInArrow(_merging(job), _PACKED_SQL)
        profiles, written = _fetch(merged)
    if job.tape is not None:
        job.tape.publish(written)
    return merge_all(profiles, job.config)


def _fetch(merged: DataFrame) -> tuple[list[Profiles], list[str]]:
    from pyspark import StorageLevel

    # kept on the workers' disks: merged by all of them at once, fetched one by one
    merged = merged.persist(StorageLevel.DISK_ONLY)
    profiles, written = list[Profiles](), list[str]()
    try:
        merged.count()
        for row in merged.toLocalIterator():
            if row["tape"] is None:
                profiles.append(unpack(row["packed"]))
            else:
                written.append(row["tape"])
    finally:
        merged.unpersist()
    return profiles, written


def _level_of(frame: DataFrame, config: FoldConfig) -> int:
    """Choose the level of the whole log, from columns that cost little to read."""
    from pyspark.sql import functions as f

    counted = frame.where(f.col("account") != "")
    if "action" in frame.columns:
        counted = counted.where(~f.coalesce(f.col("action"), f.lit("")).isin(*_REFUSALS))
    counted = counted.groupBy("account").agg(f.count("*").alias("n"))
    finer = levels_of(config)[:-1]
    sums = [f.sum(f.least(f.col("n"), f.lit(level.digests))) for level in finer]
    rows = counted.agg(*[total.alias(str(i)) for i, total in enumerate(sums)]).first()
    for number, level in enumerate(finer):
        kept = (rows[number] if rows is not None else 0) or 0
        if kept * level.digest_bytes(config.excerpt_chars) <= config.memory_bytes:
            return number
    return len(finer)


def _folding(job: _Job) -> _Mapping:
    def fold_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with contextlib.ExitStack() as stack:
            writer = None if job.tape is None else stack.enter_context(job.tape.writer())
            profiles = fold(batches, job.config, tape=writer, embedder=job.embedder)
        profiles = at_level(profiles, job.level, job.config)
        if job.tape is not None:
            yield _row(0, tape=job.tape.name())
        bucket_of = _buckets(profiles.accounts, job.n_buckets)
        for bucket in np.unique(bucket_of).tolist():
            yield _row(bucket, packed=pack(profiles.select(bucket_of == bucket)))

    return fold_partition


def _merging(job: _Job) -> _Mapping:
    def merge_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # like a binary counter: parts of one size are merged, so none is copied often
        waiting: list[tuple[int, Profiles]] = []
        for batch in batches:
            for packed, tape in zip(batch["packed"], batch["tape"], strict=True):
                if tape.is_valid:
                    yield _row(0, tape=tape.as_py())
                    continue
                part, size = unpack(packed.as_buffer()), 1
                while waiting and waiting[-1][0] <= size:
                    n_parts, before = waiting.pop()
                    part, size = merge_all([before, part], job.config), size + n_parts
                waiting.append((size, part))
        if waiting:
            merged = merge_all([part for _, part in waiting], job.config)
            yield _row(0, packed=pack(merged))

    return merge_partition


def _row(bucket: int, *, packed: bytes | None = None, tape: str | None = None) -> pa.RecordBatch:
    columns = [[bucket], [packed], [tape]]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, _PACKED.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_PACKED)


def _buckets(accounts: pa.Array, n_buckets: int) -> NDArray[np.int64]:
    names = accounts.cast(pa.large_binary()).to_pylist()
    hashes = [xxhash.xxh3_64_intdigest(name) % n_buckets for name in names]
    return np.array(hashes, dtype=np.int64)


@contextlib.contextmanager
def _translated(message: str = "", *, hint: str | None = None) -> Iterator[None]:
    with extra("spark"):
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
    try:
        yield
    except (PySparkException, Py4JError) as error:
        message = message or f"fold_spark: a task failed: {_cause(error)}"
        raise RecordError(message, hint=hint) from error


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line]
    return (named or lines or [type(error).__name__])[-1]
