"""The queries of the documentation, run as they are printed there."""

import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import pytest

from stillwatch.detect.engines.spark_session import has_java
from stillwatch.record.exchange import ARROW_SCHEMA, Answer, Exchange, Message
from stillwatch.record.store import write_store

PAGE = Path(__file__).resolve().parents[3] / "docs" / "record.md"
START = 1_735_689_600.0  # 2025-01-01
DAY = 86_400.0


def _exchange(n: int, *, account: str, question: str, day: int, **known: object) -> Exchange:
    system = (Message(role="system", content="You label."),) if account.startswith("w") else ()
    at = START + day * DAY + n
    return Exchange(
        exchange_id=f"e{n}",
        account=account,
        started_at=at,
        first_output_at=at + 0.5,
        ended_at=at + 2.0,
        model="large" if n % 4 else "small",
        messages=(*system, Message(role="user", content=question)),
        answers=(Answer(text="yes", finish_reason="stop"),),
        network_hash=f"n{n % 2}",
        key_hash=f"k-{account}",
        output_tokens=10 + n,
        **known,
    )


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of three days where the page's queries look for it, with a half-written file."""
    web = [
        _exchange(
            n,
            account=f"w{n % 4}",
            question=f"Label item {n}",
            day=n % 3,
            campaign_id="c1" if n >= 6 else None,
            action="throttle" if n >= 9 else "allow",
            status=429 if n >= 9 else 200,
        )
        for n in range(12)
    ]
    people = [_exchange(20 + n, account=f"p{n}", question=f"A {'x' * n}", day=2) for n in range(3)]
    monkeypatch.chdir(tmp_path)
    write_store(Path("record/store"), [*web, *people])
    Path("record/store/day=2025-01-01/.part-000002.parquet.part").write_bytes(b"PAR1 half")
    return tmp_path


def _printed(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def _heavy_askers() -> list[tuple[object, ...]]:
    people = [(f"p{n}", 1, 30 + n, 1, 1) for n in (2, 1, 0)]
    web = {k: [n for n in range(12) if n % 4 == k and n % 3 > 0] for k in range(4)}
    rows = [
        (f"w{k}", len(ns), sum(10 + n for n in ns), len({n % 2 for n in ns}), 1)
        for k, ns in web.items()
    ]
    return sorted(people + rows, key=lambda row: (-row[2], row[0]))


EXPECTED = [
    _heavy_askers(),
    [("You label.", 4, 2, 12)],
    [("label item #", 4, 12, START)],
    [
        (date(2025, 1, 1), "c1", "allow", 1, 1, 16),
        (date(2025, 1, 1), "c1", "throttle", 1, 1, 19),
        (date(2025, 1, 2), "c1", "allow", 1, 1, 17),
        (date(2025, 1, 2), "c1", "throttle", 1, 1, 20),
        (date(2025, 1, 3), "c1", "allow", 1, 1, 18),
        (date(2025, 1, 3), "c1", "throttle", 1, 1, 21),
    ],
    [("large", 11, 0.273, 0.5, 2.0), ("small", 4, 0.0, 0.5, 2.0)],
]


@pytest.mark.usefixtures("record")
@pytest.mark.parametrize("number", range(5))
def test_query(number: int) -> None:
    """DuckDB answers each printed query as counted by hand."""
    queries = _printed("sql")
    assert 5 == len(queries)
    assert EXPECTED[number] == duckdb.sql(queries[number]).fetchall()


@pytest.mark.usefixtures("record")
def test_polars() -> None:
    """Polars reads the store by the printed lines."""
    pytest.importorskip("polars", reason="Polars is not installed")
    code = next(block for block in _printed("python") if "polars" in block)
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 - our own page
    counts = names["counts"]
    assert [4, 4, 7] == counts["exchanges"].to_list()


_SPARK = """
import json, sys
from stillwatch.detect.engines.spark_session import local_session

spark = local_session(2, memory="512m")
for setting in ("spark.sql.codegen.wholeStage", "spark.sql.adaptive.enabled"):
    spark.conf.set(setting, "false")
spark.conf.set("spark.sql.shuffle.partitions", "2")
counts = eval(sys.argv[1])
print(json.dumps([[str(row["day"]), row["count"]] for row in counts.collect()]))
spark.stop()
"""


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.skipif(not has_java(), reason="Spark needs Java, and there is none")
def test_spark(record: Path) -> None:
    """Spark reads the store by the printed line, in a process whose folder is the record's."""
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    code = next(block for block in _printed("python") if "spark.read" in block)
    quick = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    found = subprocess.run(
        [sys.executable, "-c", _SPARK, code],
        cwd=record,
        env={**os.environ, "JAVA_TOOL_OPTIONS": quick},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(found.stdout.splitlines()[-1])
    assert [["2025-01-01", 4], ["2025-01-02", 4], ["2025-01-03", 7]] == sorted(rows)


def test_columns() -> None:
    """The page's table of columns names every field of the store, and no other."""
    table = PAGE.read_text().split("## Columns")[1].split("## Queries")[0]
    named = [
        name
        for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert {*ARROW_SCHEMA.names, "day"} == set(named)
    assert len(named) == len(set(named))
