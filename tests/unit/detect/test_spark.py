"""Spark folds like this machine does."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from detect_world import DetectWorld

from stillwatch.detect import FoldConfig, Profiles, find_campaigns, fold, write_findings
from stillwatch.detect.engines.spark import fold_spark
from stillwatch.detect.engines.spark_session import has_java, local_session
from stillwatch.detect.profiles.levels import levels_of
from stillwatch.detect.profiles.tables import pack
from stillwatch.detect.profiles.tape import TapeWriter, read_tape
from stillwatch.errors import InvalidInputError, RecordError
from stillwatch.record.exchange import to_batch
from stillwatch.record.store import scan_store, store_files, write_store

pytest.importorskip("pyspark", reason="pyspark is not installed: pip install 'stillwatch[spark]'")
pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(not has_java(), reason="Spark needs Java, and there is none"),
]


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    """Spark inside this process, two tasks at once, and no Java that is compiled to be quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        session = local_session(2, memory="1g")
    for setting in ("spark.sql.codegen.wholeStage", "spark.sql.adaptive.enabled"):
        session.conf.set(setting, "false")
    session.conf.set("spark.sql.shuffle.partitions", "2")
    yield session
    session.stop()


def _rows(tape: Path) -> list[dict[str, object]]:
    rows = [row for batch in read_tape(tape) for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: (row["account"], row["exchange_id"], row["started_at"]))


@pytest.fixture(scope="module")
def store(world: DetectWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The live log as a store: a file a day."""
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, world.live)
    return folder


def test_campaigns_are_the_same_byte_for_byte(
    session: Any, store: Path, folded: tuple[Profiles, Profiles], tmp_path: Path
) -> None:
    """A store on Spark and the same log on this machine end with one `campaigns.json`."""
    live, reference = folded
    spread = fold_spark([store], session=session, n_buckets=3)
    assert pack(live) == pack(spread)
    bodies = []
    for name, profiles in (("local", live), ("spark", spread)):
        write_findings(find_campaigns(profiles, reference), tmp_path / name)
        bodies.append((tmp_path / name / "campaigns.json").read_bytes())
    assert bodies[0] == bodies[1]
    assert b'"campaign_id"' in bodies[0]


@pytest.mark.parametrize(("level", "memory_bytes"), [(1, 10_000_000), (2, 1)])
def test_coarse_levels_are_the_same_in_any_partitioning(
    level: int, memory_bytes: int, session: Any, store: Path, world: DetectWorld
) -> None:
    """The bound on memory is that of the whole log, not of a task's part of it."""
    config = FoldConfig(memory_bytes=memory_bytes, digests_per_account=99)
    frame = session.read.parquet(str(store)).repartition(5, "started_at")
    local = fold([to_batch(world.live)], config)
    assert level == local.level
    assert pack(local) == pack(fold_spark(frame, config, n_buckets=2))


def test_every_exchange_is_on_the_tape_once(
    session: Any, world: DetectWorld, tmp_path: Path
) -> None:
    """Tasks write one tape together; what does not count is neither on it nor in the sums."""

    def look(texts: Sequence[str]) -> np.ndarray:  # sent to the workers as it is
        return np.array([[len(text), text.count("e"), 1.0] for text in texts], np.float32)

    log = [
        msgspec.structs.replace(
            exchange,
            account=exchange.account if i % 5 else "",
            action="allow" if i % 4 else "block",
        )
        for i, exchange in enumerate(world.live[:800])
    ]
    write_store(tmp_path / "store", log)
    older = store_files(tmp_path / "store")[0]  # by a version that knew fewer fields
    table = pq.read_table(older, partitioning=None)
    pq.write_table(table.drop_columns(["user_agent", "org"]), older)
    # 480 count, and just fit: were others counted, the level would be coarser
    finest = levels_of(FoldConfig())[0].digest_bytes(FoldConfig().excerpt_chars)
    config = FoldConfig(memory_bytes=480 * finest)
    with TapeWriter(tmp_path / "local") as tape:
        local = fold(scan_store(tmp_path / "store"), config, tape=tape, embedder=look)
    assert 0 < np.count_nonzero(local.digests.org) < len(local.digests.org)
    how = {"tape": tmp_path / "spark", "embedder": look, "n_buckets": 2}
    spread = fold_spark([tmp_path / "store"], config, session=session, **how)
    assert pack(local) == pack(spread)
    assert 480 == local.n_exchanges == len(_rows(tmp_path / "spark"))
    assert 0 == local.level
    assert _rows(tmp_path / "local") == _rows(tmp_path / "spark")
    assert all(path.suffix == ".tape" for path in (tmp_path / "spark").iterdir())


def test_a_log_of_nobody_gives_no_profiles(session: Any, store: Path) -> None:
    """Exchanges without an account are left out on Spark as well, and no task stumbles."""
    frame = session.read.parquet(str(store)).where("account = ''")
    assert 0 == fold_spark(frame, n_buckets=2).n_accounts


def test_what_cannot_be_folded_is_one_sentence(session: Any, store: Path, tmp_path: Path) -> None:
    """Missing columns, missing paths and broken rows are our errors, not a trace of Java."""
    frame = session.read.parquet(str(store)).limit(3)
    with pytest.raises(InvalidInputError, match="'account' among them"):
        fold_spark(frame.drop("account"))
    with pytest.raises(InvalidInputError, match="at least one path"):
        fold_spark([])
    with pytest.raises(RecordError, match="must be Parquet that Spark can read"):
        fold_spark([tmp_path / "nothing"], session=session)
    broken = frame.selectExpr("exchange_id", "account", "array(1) as started_at")
    with pytest.raises(RecordError, match=r"^fold_spark: a task failed: \w+.*Error: "):
        fold_spark(broken, n_buckets=1)
