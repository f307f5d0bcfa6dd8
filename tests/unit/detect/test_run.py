"""The verb: logs in, four files out; accounts explained; what is missing is said."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from stillwatch.cli.main import stillwatch
from stillwatch.detect import fold
from stillwatch.detect.evidence.limits import missing_fields
from stillwatch.record.exchange import Exchange, to_batch
from stillwatch.record.store import write_store


def run(*words: object):
    """Run the verb."""
    return CliRunner().invoke(stillwatch, ["detect", *map(str, words)], catch_exceptions=False)


@pytest.fixture(scope="module")
def stores(world, tmp_path_factory) -> tuple[Path, Path]:
    """The small world as two stores."""
    folder = tmp_path_factory.mktemp("stores")
    write_store(folder / "live", world.live)
    write_store(folder / "vetted", world.reference)
    return folder / "live", folder / "vetted"


@pytest.fixture(scope="module")
def done(world, stores, tmp_path_factory):
    """One run with everything: files, a kept profile, a price, an explanation."""
    out = tmp_path_factory.mktemp("out")
    live, vetted = stores
    member = sorted(world.web)[0]
    result = run(
        live, "--reference", vetted, "--out", out, "--price", "m=2/10", "--explain", member,
        "--profiles", out / "kept",
    )  # fmt: skip
    return result, out, member


def test_a_run_writes_its_files(done) -> None:
    """Page, campaigns and accounts agree with each other."""
    result, out, _ = done
    assert 0 == result.exit_code
    page = (out / "report.html").read_text()
    document = json.loads((out / "campaigns.json").read_text())
    campaign = document["campaigns"][0]
    assert campaign["campaign_id"] in page
    assert campaign["accounts"][0] in page
    assert (out / "accounts.csv").read_text().count(campaign["campaign_id"]) >= 90
    assert "<script" not in page
    assert 'src="http' not in page


def test_the_account_asked_about_is_explained(done) -> None:
    """With --explain the answer is printed, not the campaigns."""
    result, _, member = done
    assert result.output.startswith(f"{member}: named in web-")
    assert "nearest by rare wording" in result.output


def test_kept_profiles_need_no_log(done, stores) -> None:
    """A second run explains from what the first one kept."""
    _, out, member = done
    result = run(
        "--profiles", out / "kept", "--reference", stores[1], "--explain", member, "--json"
    )
    assert 0 == result.exit_code
    assert "named" == json.loads(result.output)["standing"]


def test_nothing_to_do_is_refused() -> None:
    """Neither a folder nor an account: the message names both flags."""
    result = run("somewhere")
    assert 2 == result.exit_code
    assert "--out" in result.output
    assert "--explain" in result.output


def test_a_log_without_content_says_what_is_lost(tmp_path) -> None:
    """An access log names nobody, and its page tells which fields cost what."""
    log = [
        Exchange(exchange_id=f"x{i}", account=f"a{i % 30}", started_at=1.7e9 + i, messages=())
        for i in range(300)
    ]
    write_store(tmp_path / "log", log)
    result = run(tmp_path / "log", "--out", tmp_path / "out")
    assert 0 == result.exit_code
    assert "no campaign can be named: the log has no questions" in result.output
    assert "Names that share one owner were not: no table of accounts was given" in result.output
    assert "not in this log: system, tools, network" in result.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert "This log has no questions: no campaign can be named" in page
    assert "none is ruled out" in page
    assert "webs cannot be found from texts" in page
    missing = {m["field"]: m["share"] for m in missing_fields(fold([to_batch(log)]))}
    assert 0.0 == missing["question"] == missing["network"]


def _racked(tmp_path: Path) -> Path:
    """Write an access log in which forty accounts come from four racks."""
    log = [
        Exchange(
            exchange_id=f"x{i}-{j}", account=f"a{i:03}", started_at=1.7e9 + j, org=f"org{i}",
            network_hash=f"rack{(i + j) % 4}" if i < 40 else f"home{i}",
        )
        for i in range(400)
        for j in range(3)
    ]  # fmt: skip
    write_store(tmp_path / "log", log)
    return tmp_path / "log"


def _table(path: Path, *, column: str) -> Path:
    """Write a table of accounts in which the forty share four values."""
    rows = [f"a{i:03},{f'p{i % 4}' if i < 40 else f'own{i}'}" for i in range(400)]
    path.write_text("\n".join([f"account,{column}", *rows, ""]))
    return path


def test_an_access_log_names_owners_and_no_campaign(tmp_path) -> None:
    """With payments known, names that share one owner are said everywhere, and called so."""
    log, table = _racked(tmp_path), _table(tmp_path / "table.csv", column="payment_fp")
    result = run(log, "--accounts", table, "--out", tmp_path / "out")
    assert 0 == result.exit_code
    assert "evidence about accounts, not about harvesting" in result.output
    assert "with p-values: 1 found" in result.output
    document = json.loads((tmp_path / "out" / "campaigns.json").read_text())
    assert [] == document["campaigns"]
    (owner,) = document["owners"]
    assert [f"a{i:03}" for i in range(40)] == owner["accounts"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Names that share one owner: evidence about accounts, not about harvesting" in page
    assert owner["owner_id"] in page
    told = run(log, "--accounts", table, "--explain", "a007").output
    assert told.startswith(f"a007: in no group, one of the names behind {owner['owner_id']}")
    assert "one of 40 accounts that share one owner" in told
    assert "share one owner" not in run(log, "--accounts", table, "--explain", "a333").output


def test_a_table_without_marks_is_told_from_innocence(tmp_path) -> None:
    """A table that knows no payment and no sign-up confirms nothing, and the run says so."""
    table = _table(tmp_path / "table.csv", column="plan")
    result = run(_racked(tmp_path), "--accounts", table, "--out", tmp_path / "out")
    assert "the table of accounts gives no payment mark (payment_fp)" in result.output
    document = json.loads((tmp_path / "out" / "campaigns.json").read_text())
    assert document["owners"] is None
    assert "gives no payment mark" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("name", ["nginx/access.log", "envoy_ai/access.jsonl"])
def test_access_logs_of_gateways_say_what_they_lack(tmp_path, name) -> None:
    """A gateway's access log is read, and what it cannot tell is said."""
    log = Path(__file__).parents[2] / "fixtures" / "logs" / name
    result = run(log, "--out", tmp_path / "out")
    assert 0 == result.exit_code
    assert "no campaign can be named: the log has no questions" in result.output
    assert "share networks, client software" in result.output
