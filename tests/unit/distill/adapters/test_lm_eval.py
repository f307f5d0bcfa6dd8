"""Tasks of lm-evaluation-harness on our models; the whole harness only where it is installed."""

import json
from types import SimpleNamespace

import pytest

from stillwatch.distill.adapters.lm_eval import HarnessModel, cut_at, lm_eval_model, run_lm_eval
from stillwatch.distill.adapters.outcomes import compare_outcomes
from stillwatch.distill.scores.contender import Contender
from stillwatch.errors import InvalidInputError
from stillwatch.model.fake import FakeModel, last_user_text


def _request(*args):
    return SimpleNamespace(args=args)


@pytest.fixture
def echo():
    """A model that answers with its question, and the harness's face of it."""
    fake = FakeModel.echo()
    model = HarnessModel(fake)
    yield fake, model
    model.close()


def test_requests_become_questions(echo):
    """Settings take the wire's names, a bare text is one user turn, answers keep their order."""
    fake, model = echo
    settings = {"until": ["\n", "Q:", "A:", "B:", "C:"], "max_gen_toks": 7, "do_sample": False}
    said = model.generate_until([_request("one\ntwo", settings), _request("three", {})])
    assert ["one", "three"] == said
    asked = fake.questions[0]
    assert [("user", "one\ntwo")] == [(m.role, m.content) for m in asked.messages]
    wanted = {"temperature": 0.0, "max_tokens": 7, "stop": ["\n", "Q:", "A:", "B:"]}
    assert wanted == asked.parameters
    assert 256 == fake.questions[1].parameters["max_tokens"]


def test_conversations_stay_conversations(echo):
    """Few-shot turns reach the model as turns, not as one text."""
    fake, model = echo
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2?"},
    ]
    context = model.apply_chat_template(history)
    assert ["2+2?"] == model.generate_until([_request(context, {})])
    turns = [{"role": m.role, "content": m.content} for m in fake.questions[0].messages]
    assert history == turns


def test_questions_share_calls():
    """A model that takes batches gets them."""
    sizes = []

    class Counting(FakeModel):
        async def answer(self, questions):
            sizes.append(len(questions))
            return await super().answer(questions)

    model = HarnessModel(Contender(Counting(last_user_text), batch=4))
    said = model.generate_until([_request(str(n), {}) for n in range(10)])
    model.close()
    assert [str(n) for n in range(10)] == said
    assert [4, 4, 2] == sizes


def test_a_failure_reaches_the_harness():
    """What the model raises is raised, not swallowed as an empty answer."""
    model = HarnessModel(FakeModel.scripted({}))
    with pytest.raises(Exception, match="no answer to this question"):
        model.generate_until([_request("1+1?", {})])
    model.close()


def test_likelihoods_need_weights(echo):
    """A model that only answers says so, and what to give."""
    _, model = echo
    with pytest.raises(InvalidInputError, match="log-likelihoods"):
        model.loglikelihood([_request("a", " b")])
    with pytest.raises(InvalidInputError, match="perplexity"):
        model.loglikelihood_rolling([_request("a")])


def test_the_earliest_end_counts():
    """Of several texts that end an answer the earliest cuts it."""
    assert ("ab", "abc", "") == (
        cut_at("ab#c;", [";", "#"]),
        cut_at("abc", ["", "x"]),
        cut_at("#", "#"),
    )


TASK = {
    "task": "sums",
    "dataset_path": "json",
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A task of 20 sums in a local file: nothing is fetched."""
    pytest.importorskip(
        "lm_eval", reason="lm-eval is not installed: pip install 'stillwatch[eval]'"
    )
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"{n}+{n}?", "answer": str(2 * n)} for n in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return {**TASK, "dataset_kwargs": {"data_files": {"test": str(path)}}}


def _knows(limit: int) -> Contender:
    """Right below a limit; what follows the first line is cut by the task."""
    sums = {f"{n}+{n}?": str(2 * n) if n < limit else "?" for n in range(20)}
    model = FakeModel(lambda q: sums[last_user_text(q)] + "\nQ: more?", name=str(limit))
    return Contender(model, batch=8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_harness_runs_a_task(tasks):
    """Real tasks of the real harness run on our models and are compared item by item."""
    models = {"teacher": _knows(20), "untouched": _knows(2), "s0": _knows(11)}
    outcomes = run_lm_eval(models, [tasks])
    assert [("sums", "exact_match")] == [(found.task, found.metric) for found in outcomes]
    comparison = compare_outcomes(outcomes)[0]
    shares = {name: found.share.value for name, found in comparison.models.items()}
    assert {"teacher": 1.0, "untouched": 0.1, "s0": 0.55} == shares
    assert pytest.approx(0.5) == comparison.models["s0"].gap_closed.value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_harness_runs_few_shots_and_bare_text(tasks):
    """Few-shot examples arrive as turns, or as one text where conversations are off."""
    fake = FakeModel(lambda q: "0")
    given = {"num_fewshot": 2, "limit": 1}
    shots = {**tasks, "fewshot_split": "test"}
    run_lm_eval({"m": fake}, [shots], settings=given)
    assert 5 == len(fake.questions[-1].messages)
    run_lm_eval({"m": fake}, [shots], settings={**given, "apply_chat_template": False})
    assert 1 == len(fake.questions[-1].messages)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_harness_asks_for_likelihoods(tasks):
    """A task of several choices runs where there are weights, and says what it needs elsewhere."""
    choices = {k: v for k, v in tasks.items() if k not in {"generation_kwargs", "metric_list"}} | {
        "task": "choices",
        "output_type": "multiple_choice",
        "doc_to_choice": ["no", "yes"],
        "doc_to_target": 1,
        "metric_list": [{"metric": "acc"}],
    }

    class Fixed:
        def score(self, pairs):
            return [(-float(said.strip() != "yes"), said.strip() == "yes") for _, said in pairs]

    outcomes = run_lm_eval({"m": FakeModel.echo()}, [choices], likelihoods={"m": Fixed()})
    assert {1.0} == set(outcomes[0].values["m"].values())
    wrapped = lm_eval_model(FakeModel.echo())
    wrapped.close()
    with pytest.raises(InvalidInputError, match="log-likelihoods"):
        run_lm_eval({"m": FakeModel.echo()}, [choices])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_metric_that_is_not_there_is_named(tasks):
    """The message lists the metrics that the task has."""
    with pytest.raises(InvalidInputError, match="exact_match"):
        run_lm_eval({"m": FakeModel.echo()}, [tasks], metrics={"sums": "bleu"})
