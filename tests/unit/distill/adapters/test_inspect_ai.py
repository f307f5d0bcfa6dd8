"""Tasks of inspect-ai on our models; they run only where inspect-ai is installed."""

import json

import pytest

from stillwatch.distill.adapters.inspect_ai import inspect_model, run_inspect
from stillwatch.distill.adapters.outcomes import compare_outcomes
from stillwatch.distill.scores.contender import Contender
from stillwatch.errors import ModelError
from stillwatch.model.fake import FakeModel, last_user_text
from stillwatch.model.protocol import Reply
from stillwatch.record.exchange import Answer

inspect_ai = pytest.importorskip(
    "inspect_ai", reason="inspect-ai is not installed: pip install 'stillwatch[eval]'"
)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def _task():
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import exact

    samples = [Sample(id=n, input=f"{n}+{n}?", target=str(2 * n)) for n in range(20)]
    return Task(name="sums", dataset=MemoryDataset(samples), scorer=exact())


def _knows(limit: int, *, name: str) -> Contender:
    sums = {f"{n}+{n}?": str(2 * n) if n < limit else "?" for n in range(20)}
    return Contender(FakeModel.scripted(sums, name=name), batch=8)


def test_inspect_runs_a_task(tmp_path):
    """Real tasks of the real tool run on our models and are compared item by item."""
    models = {
        "teacher": _knows(20, name="t"),
        "untouched": _knows(2, name="u"),
        "s0": _knows(11, name="s"),
    }
    outcomes = run_inspect(models, _task(), log_folder=tmp_path)
    assert [("sums", "exact")] == [(found.task, found.metric) for found in outcomes]
    comparison = compare_outcomes(outcomes)[0]
    shares = {name: found.share.value for name, found in comparison.models.items()}
    assert {"teacher": 1.0, "untouched": 0.1, "s0": 0.55} == shares
    assert pytest.approx(0.5) == comparison.models["s0"].gap_closed.value


def test_settings_reach_the_wire(tmp_path):
    """Generation settings take the wire's names."""
    fake = FakeModel.echo()
    settings = {"temperature": 0.5, "max_tokens": 9, "seed": 3, "stop_seqs": ["x"]}
    run_inspect({"m": fake}, _task(), log_folder=tmp_path, settings=settings, options={"limit": 1})
    wanted = {"temperature": 0.5, "max_tokens": 9, "seed": 3, "stop": ["x"]}
    assert wanted == fake.questions[0].parameters


def test_epochs_are_averaged(tmp_path):
    """An item that was answered several times is worth the share that was right."""
    turns = iter(range(1000))
    fake = FakeModel(lambda q: "0" if next(turns) % 2 else "no")
    task, options = _task(), {"limit": 1, "epochs": 4}
    found = run_inspect({"m": fake}, task, log_folder=tmp_path, options=options)
    assert {"0": 0.5} == found[0].values["m"]


def test_tool_calls_come_and_go(tmp_path):
    """A tool that the model calls is run, and its result goes back as a tool's turn."""
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate, use_tools
    from inspect_ai.tool import tool

    @tool
    def add():
        async def execute(x: int, y: int) -> str:
            """Add two numbers.

            Args:
                x: first.
                y: second.
            """
            return str(x + y)

        return execute

    def answer(question):
        if question.messages[-1].role == "tool":
            return f"It is {question.messages[-1].content}."
        call = {"id": "c1", "type": "function"}
        call["function"] = {"name": "add", "arguments": json.dumps({"x": 2, "y": 3})}
        extra = json.dumps({"tool_calls": [call]})
        return Reply(answers=(Answer(text="", finish_reason="tool_calls", extra=extra),))

    fake = FakeModel(answer)
    dataset = MemoryDataset([Sample(id=1, input="2+3?", target="5")])
    task = Task(name="t", dataset=dataset, solver=[use_tools(add()), generate()], scorer=includes())
    found = run_inspect({"m": fake}, task, log_folder=tmp_path)
    assert {"1": 1.0} == found[0].values["m"]
    first, second = fake.questions
    named = first.parameters["tools"][0]["function"]
    assert ("add", {"x", "y"}) == (named["name"], set(named["parameters"]["properties"]))
    assert ["user", "assistant", "tool"] == [m.role for m in second.messages]
    assert "c1" == json.loads(second.messages[-1].extra)["tool_call_id"]
    calls = json.loads(second.messages[1].extra)["tool_calls"]
    assert {"x": 2, "y": 3} == json.loads(calls[0]["function"]["arguments"])


def test_a_failed_evaluation_is_no_score(tmp_path):
    """An evaluation that ends in an error is an error, not a row of zeros."""
    with pytest.raises(ModelError, match="ended with status error"):
        run_inspect({"m": FakeModel.scripted({})}, _task(), log_folder=tmp_path)


def test_a_model_takes_many_questions_at_once():
    """Enough questions are let through to fill the model's batches."""
    model = inspect_model(Contender(FakeModel(last_user_text), batch=8, calls=2))
    assert 16 == model.api.max_connections()
