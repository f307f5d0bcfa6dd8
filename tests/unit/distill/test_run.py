"""The run as a whole: from a file to a curve, again for nothing, and never without permission."""

import asyncio
import json
from pathlib import Path

import pytest

from stillwatch.cli.main import main
from stillwatch.distill.items import Item, item_id_of, write_items
from stillwatch.distill.run import Run
from stillwatch.distill.stages.run_file import read_run_file
from stillwatch.errors import ConfigError
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint
from stillwatch.record.exchange import Message

ANSWERS = {f"say {n}": str(n) for n in range(40)}
PERMISSION = '[permission]\nbasis = "own-model"\nteacher = "m"\n'


@pytest.fixture
def endpoint():
    """A loopback teacher that says the number it is told."""
    with FakeEndpoint(FakeConfig(answers=ANSWERS)) as served:
        yield served


def _write(folder: Path, url: str, *, permission: str = PERMISSION, more: str = "") -> Path:
    asked = [{"question": f"say {n}"} for n in range(30)]
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    held_out = []
    for n in range(30, 40):
        messages = (Message(role="user", content=f"say {n}"),)
        held_out.append(Item(item_id=item_id_of(messages), messages=messages, truth=str(n)))
    write_items(folder / "held-out.jsonl", held_out)
    path = folder / "RUN.toml"
    path.write_text(
        f'{permission}[teacher]\nendpoint = "{url}"\nmodel = "m"\n'
        "parameters = { max_tokens = 8, temperature = 0 }\n"
        '[questions]\nfiles = ["pool.jsonl"]\norder = "given"\n'
        "[prices]\ninput = 1.5\noutput = 2.0\n"
        "[train]\nat = [10, 30]\nseeds = [0]\nsteps = 4\nbatch_size = 4\n"
        "[train.student]\nwidth = 16\nlayers = 1\nheads = 2\ncontext = 64\n"
        '[score]\nitems = "held-out.jsonl"\ncheck = "exact"\n'
        f"parameters = {{ max_tokens = 8, temperature = 0 }}\n[curve]\ndraws = 40\n{more}"
    )
    return path


def _stillwatch(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["distill", *words])
    return int(left.value.code or 0)


def test_a_run_goes_from_questions_to_a_page_and_costs_nothing_twice(tmp_path, endpoint, capsys):
    """One command asks, trains, scores and draws; called again it asks and trains nothing."""
    path = _write(tmp_path, endpoint.base_url)
    assert _stillwatch("run", str(path), "--processes", "1") == 0
    first = endpoint.counts()
    folder = tmp_path / "RUN"
    assert (first.n_billed, first.n_distinct) == (40, 40)
    assert len((folder / "kept.jsonl").read_text().splitlines()) == 30
    students = sorted(one.name for one in (folder / "students").iterdir())
    assert students == ["0000010-s0", "0000030-s0", "untouched"]
    assert "questions" in (folder / "curve.html").read_text()
    points = [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]
    assert [point.get("n_questions") for point in points] == [None, 0, 10, 30]
    assert sum(points[0]["correct"]) == 10
    weights = {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}
    capsys.readouterr()
    assert _stillwatch("run", str(path), "--processes", "1") == 0
    assert endpoint.counts().n_billed == 40
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")} == weights
    assert _stillwatch("verify", str(folder)) == 0
    kept = folder / "kept.jsonl"
    kept.write_bytes(kept.read_bytes().replace(b"say 3", b"say 4", 1))
    capsys.readouterr()
    assert _stillwatch("verify", str(folder)) == 1
    assert "kept.jsonl" in capsys.readouterr().out


def test_without_permission_nothing_is_asked(tmp_path, endpoint, capsys):
    """Without a [permission] block the exit code is 4, and the block to write is printed."""
    path = _write(tmp_path, endpoint.base_url, permission="")
    assert _stillwatch("ask", str(path)) == 4
    told = capsys.readouterr().err
    assert "[permission]" in told
    assert 'basis = "own-model"' in told
    assert endpoint.counts().n_requests == 0
    assert _stillwatch("run", str(path)) == 4
    assert endpoint.counts().n_requests == 0


def test_a_permission_for_another_model_or_day_stops_the_run(tmp_path, endpoint, capsys):
    """Another model, another endpoint and an expired grant exit 4 and ask nothing."""
    for block in (
        '[permission]\nbasis = "own-model"\nteacher = "another"\n',
        '[permission]\nbasis = "own-model"\nteacher = "m"\nexpires = 2020-01-01\n',
        '[permission]\nbasis = "own-model"\nteacher = "m"\nendpoint = "https://x.example/v1"\n'
        'endpoint_owner = "X"\n',
    ):
        path = _write(tmp_path, endpoint.base_url, permission=block)
        assert _stillwatch("ask", str(path)) == 4
    assert endpoint.counts().n_requests == 0


def test_a_budget_ends_the_run_cleanly_and_is_never_passed(tmp_path, endpoint):
    """With a cap of seven questions seven are bought, the exit code is 3, and more can follow."""
    path = _write(tmp_path, endpoint.base_url)
    assert _stillwatch("ask", str(path), "--budget-questions", "7") == 3
    assert endpoint.counts().n_billed == 7
    assert _stillwatch("ask", str(path), "--budget-questions", "12") == 3
    assert endpoint.counts().n_billed == 12
    assert _stillwatch("ask", str(path)) == 0
    assert endpoint.counts().n_billed == 30


def test_a_budget_that_ends_early_still_gives_a_curve(tmp_path, endpoint, capsys):
    """Held-out questions are bought first, students are trained on what the rest bought."""
    path = _write(tmp_path, endpoint.base_url)
    words = ("run", str(path), "--processes", "1", "--budget-questions", "22")
    assert _stillwatch(*words) == 3
    assert endpoint.counts().n_billed == 22
    names = sorted(one.name for one in (tmp_path / "RUN" / "students").iterdir())
    assert names == ["0000010-s0", "0000012-s0", "untouched"]
    assert (tmp_path / "RUN" / "curve.html").is_file()


def test_another_system_prompt_asks_anew_and_nothing_else_does(tmp_path, endpoint):
    """Changing the system prompt gives no stale row; changing the training asks nothing."""
    path = _write(tmp_path, endpoint.base_url)
    asyncio.run(Run.load(path).ask())
    text = path.read_text()
    path.write_text(text.replace("steps = 4", "steps = 5"))
    assert asyncio.run(Run.load(path).ask()).n_sent == 0
    path.write_text(text.replace('model = "m"\n', 'model = "m"\nsystem = "Be brief."\n', 1))
    run = Run.load(path)
    summary = asyncio.run(run.ask())
    assert (summary.n_known, summary.n_answered) == (0, 30)
    run.filter()
    assert all(one.exchange_id for one in run.dataset())
    assert endpoint.counts().n_billed == 60


def test_plan_says_what_it_costs_and_that_it_is_not_permitted(tmp_path, endpoint, capsys):
    """Plan asks nothing, prices the questions, and shows what is missing."""
    path = _write(tmp_path, endpoint.base_url, permission="")
    assert _stillwatch("plan", str(path)) == 0
    told = capsys.readouterr().out
    assert "to ask: 30" in told
    assert "not permitted yet" in told
    assert endpoint.counts().n_requests == 0


def test_score_questions_are_never_asked_for_training(tmp_path, endpoint):
    """A question of the score set that stands in the pool is left out and counted."""
    path = _write(tmp_path, endpoint.base_url)
    with (tmp_path / "pool.jsonl").open("a") as file:
        file.write('{"question": "say 35"}\n')
    counts = Run.load(path).questions()
    assert counts.items == 30
    assert sum(counts.contaminated.values()) == 1


@pytest.mark.parametrize("told", ["[train] steps", "[train] extra_key", "[nosuch]"])
def test_a_broken_run_file_names_file_and_key(tmp_path, told):
    """An unknown key, an unknown table and a wrong type are refused by name."""
    path = _write(tmp_path, "http://127.0.0.1:9/v1")
    text = path.read_text()
    broken = {
        "[train] steps": text.replace("steps = 4", 'steps = "many"'),
        "[train] extra_key": text.replace("steps = 4", "steps = 4\nextra_key = 1"),
        "[nosuch]": text + "[nosuch]\nx = 1\n",
    }[told]
    path.write_text(broken)
    with pytest.raises(ConfigError) as refused:
        read_run_file(path)
    assert str(path) in str(refused.value)
    assert told.split()[-1].strip("[]") in str(refused.value)


def test_decimals_of_money_stay_exact(tmp_path):
    """A price of 0.15 and a budget of 0.1 dollars are read as decimals, not as floats."""
    path = _write(tmp_path, "http://127.0.0.1:9/v1", more="[budget]\nusd = 0.1\n")
    path.write_text(path.read_text().replace("input = 1.5", "input = 0.15"))
    found = read_run_file(path)
    assert str(found.budget.usd) == "0.1"
    assert str(found.prices.input) == "0.15"
