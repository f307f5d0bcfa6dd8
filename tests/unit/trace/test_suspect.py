"""A suspect is asked what the plan says, for a stated purpose."""

import json

import pytest

from stillwatch.errors import ConfigError, InvalidInputError
from stillwatch.trace.preregister import AnalysisPlan, PlannedTest, hash_prompts
from stillwatch.trace.suspect import (
    Prompt,
    PromptsTable,
    Purpose,
    check_registered,
    read_prompts,
)


def _plan(*questions: str, **sampling: object) -> AnalysisPlan:
    return AnalysisPlan(
        title="t",
        suspects=("m",),
        tests=(PlannedTest(test="canary", randomisation="canary:1"),),
        prompts_sha256=hash_prompts(questions),
        sampling=dict(sampling),
    )


def test_questions_from_text_objects_and_canaries(tmp_path):
    """Plain lines, objects and canaries all give named questions in order."""
    path = tmp_path / "p"
    path.write_text("one?\n\n two? \n")
    assert [Prompt("one?", "1"), Prompt("two?", "2")] == read_prompts(path)
    path.write_text('{"question": "one?", "question_id": "a"}\n{"question": "two?"}\n')
    assert [Prompt("one?", "a"), Prompt("two?", "2")] == read_prompts(path)
    canary = {"canary_id": "c", "probe": "which?", "variants": ["red", "blue"]}
    path.write_text(json.dumps(canary) + "\n")
    assert [Prompt("which?", "c")] == read_prompts(path)


@pytest.mark.parametrize(
    "text", ["", "a?\na?\n", '{"question": ""}\n', '{"question": 1}\n', '{"question"\n']
)
def test_what_is_no_list_of_questions(tmp_path, text):
    """Nothing, a question twice, an empty one and broken JSON are refused."""
    path = tmp_path / "p"
    path.write_text(text)
    with pytest.raises(InvalidInputError):
        read_prompts(path)


def test_the_plan_decides():
    """The planned questions pass; another suspect, question or temperature does not."""
    plan = _plan("a?", "b?", temperature=0.7)
    prompts = [Prompt("a?"), Prompt("b?")]
    check_registered(plan, "m", prompts, asked={"temperature": 0.7, "max_tokens": 9})
    with pytest.raises(ConfigError, match="names m, not 'n'"):
        check_registered(plan, "n", prompts, asked={"temperature": 0.7})
    with pytest.raises(ConfigError, match=r"temperature must be 0\.7, got 1"):
        check_registered(plan, "m", prompts, asked={"temperature": 1})
    with pytest.raises(InvalidInputError, match="prompts' hash"):
        check_registered(plan, "m", prompts[::-1], asked={"temperature": 0.7})


def test_a_purpose_says_something():
    """A purpose has words and a name, and an id that changes with them."""
    purpose = Purpose(statement="is it ours?", by="us")
    assert 24 == len(purpose.purpose_id)
    assert purpose.purpose_id != Purpose(statement="is it ours?", by="them").purpose_id
    with pytest.raises(InvalidInputError, match="statement"):
        Purpose(statement=" ", by="us")
    with pytest.raises(InvalidInputError, match="samples"):
        PromptsTable(file="p", samples=0)
