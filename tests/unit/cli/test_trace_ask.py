"""A suspect is asked under a plan and a purpose, once, and never by other questions."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillwatch.cli.main import main
from stillwatch.model.fake_endpoint import FakeConfig, FakeEndpoint
from stillwatch.record.journal import verify_journal
from stillwatch.trace.outputs import SuspectOutput, read_outputs
from stillwatch.trace.preregister import AnalysisPlan, PlannedTest, hash_prompts, write_plan

QUESTIONS = [f"say {n}" for n in range(12)]
ANSWERS = {question: question[4:] for question in QUESTIONS}
PURPOSE = '[purpose]\nstatement = "does m know our answers?"\nby = "us"\n'


@pytest.fixture
def endpoint():
    """A loopback suspect that says the number it is told."""
    with FakeEndpoint(FakeConfig(answers=ANSWERS)) as served:
        yield served


def _write(folder: Path, suspect: str, *, more: str = 'plan = "plan.json"') -> Path:
    (folder / "prompts.jsonl").write_text(
        "".join(json.dumps({"question": q, "question_id": f"q{q[4:]}"}) + "\n" for q in QUESTIONS)
    )
    plan = AnalysisPlan(
        title="t",
        suspects=("m",),
        tests=(PlannedTest(test="canary", randomisation="canary:1"),),
        prompts_sha256=hash_prompts(QUESTIONS),
        n_prompts=len(QUESTIONS),
        sampling={"temperature": 0.5, "samples": 2},
    )
    write_plan(plan, folder / "plan.json")
    path = folder / "SUSPECT.toml"
    path.write_text(
        f'name = "m"\n{more}\n{PURPOSE}[suspect]\n{suspect}\nmodel = "m"\n'
        "parameters = { max_tokens = 8, temperature = 0.5 }\n"
        '[prompts]\nfile = "prompts.jsonl"\nsamples = 2\n'
    )
    return path


def _stillwatch(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["trace", *words])
    return int(left.value.code or 0)


@pytest.mark.parametrize(("wire", "path"), [("openai.chat", "/v1"), ("anthropic.messages", "/v1")])
def test_an_endpoint_is_asked_once(tmp_path, endpoint, capsys, wire, path):
    """Either wire gives outputs in the order of the questions; asked again it costs nothing."""
    url = endpoint.base_url if wire == "openai.chat" else endpoint.url + path
    file = _write(tmp_path, f'wire = "{wire}"\nendpoint = "{url}"')
    assert 0 == _stillwatch("ask", str(file), "--json")
    told = json.loads(capsys.readouterr().out)
    assert 24 == told["outputs"] == told["ask"]["n_answered"]
    outputs = read_outputs(tmp_path / "m")
    assert [f"q{n}" for n in range(12) for _ in range(2)] == [o.question_id for o in outputs]
    assert SuspectOutput("0", "say 0", "q0", 1) == outputs[1]
    assert 0 == _stillwatch("ask", str(file))
    assert 24 == endpoint.counts().n_billed
    settings = json.loads((tmp_path / "m" / "ask.json").read_text())
    assert "does m know our answers?" == settings["settings"]["purpose"]["statement"]
    assert 64 == len(settings["plan_digest"])


def test_a_folder_is_asked(tmp_path, capsys):
    """A local model folder is a suspect, too."""
    from stillwatch.siege.teachers import house_teacher

    file = _write(tmp_path, f'wire = "folder"\nfolder = "{house_teacher("house-skills")}"')
    assert 0 == _stillwatch("ask", str(file))
    assert 24 == len(read_outputs(tmp_path / "m"))


def test_other_questions_than_planned_are_refused(tmp_path, endpoint, capsys):
    """Another order, another temperature or another name than the plan's asks nothing."""
    file = _write(tmp_path, f'endpoint = "{endpoint.base_url}"')
    whole = file.read_text()
    file.write_text(whole.replace("temperature = 0.5", "temperature = 0.6"))
    assert 2 == _stillwatch("ask", str(file))
    assert "temperature" in capsys.readouterr().err
    file.write_text(whole.replace('name = "m"', 'name = "n"'))
    assert 2 == _stillwatch("ask", str(file))
    file.write_text(whole)
    lines = (tmp_path / "prompts.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "prompts.jsonl").write_text("".join(reversed(lines)))
    assert 2 == _stillwatch("ask", str(file))
    assert 0 == endpoint.counts().n_requests


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('plan = "plan.json"', "", "plan must name"),
        (PURPOSE, "", "[purpose]"),
        ('by = "us"', 'by = " "', "[purpose]: by must be"),
        ('model = "m"', 'model = "m"\nspeed = 1', "speed"),
        ("max_tokens = 8", "stream = true", "[suspect.parameters]: stream"),
    ],
)
def test_a_file_that_breaks_a_rule_is_told(tmp_path, endpoint, capsys, old, new, told):
    """One sentence says what is wrong, in the file's own words."""
    file = _write(tmp_path, f'endpoint = "{endpoint.base_url}"')
    file.write_text(file.read_text().replace(old, new))
    assert 2 == _stillwatch("ask", str(file))
    assert told in capsys.readouterr().err


def test_a_budget_ends_the_asking(tmp_path, endpoint):
    """A budget of questions holds over several calls, and gives exit code 3."""
    file = _write(tmp_path, f'endpoint = "{endpoint.base_url}"', more="exploratory = true")
    file.write_text(file.read_text() + "[budget]\nquestions = 5\n")
    assert 3 == _stillwatch("ask", str(file))
    assert 3 == _stillwatch("ask", str(file))
    assert 5 == endpoint.counts().n_billed == len(read_outputs(tmp_path / "m"))


def test_kill_9_loses_no_answer(tmp_path):
    """A killed asking goes on from its journal: what it holds is not asked again."""
    config = FakeConfig(answers=ANSWERS, delay_s=0.02, most_at_once=2)
    with FakeEndpoint(config) as endpoint:
        file = _write(tmp_path, f'endpoint = "{endpoint.base_url}"')
        file.write_text(file.read_text() + "[ask]\nconcurrency = 1\nstart = 1\n")
        command = [sys.executable, "-m", "stillwatch.cli.main", "trace", "ask", str(file)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2000):
            if endpoint.counts().n_billed >= 4 or process.poll() is not None:
                break
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        known = verify_journal(tmp_path / "m" / "record" / "journal").n_exchanges
        before = endpoint.counts().n_billed
        assert 0 == _stillwatch("ask", str(file))
        assert 24 == len(read_outputs(tmp_path / "m"))
        assert known >= 3
        # The one question under way when it was killed may be billed after `before` was read.
        assert 24 - known <= endpoint.counts().n_billed - before <= 24 - known + 1
