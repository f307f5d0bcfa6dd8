"""Run tasks of lm-evaluation-harness on any `Model`.

A model here answers conversations: tasks that generate text run as they are. Tasks that compare
log-likelihoods need weights; `Likelihoods` computes them for a model folder.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol

from stillwatch.distill.adapters.calling import Gathering, LoopThread
from stillwatch.distill.adapters.outcomes import TaskOutcomes
from stillwatch.errors import InvalidInputError, extra, reject
from stillwatch.model.protocol import Model, Question
from stillwatch.record.exchange import Message

#: Marks a context that is a conversation; no text of a task begins with it.
_CONVERSATION = "\x00conversation:"
#: The most texts that end an answer which chat endpoints take; all are cut at here as well.
_MOST_STOPS = 4
_DEFAULT_TOKENS = 256
#: Settings of the harness that have another name on the wire, or none.
_TRANSLATED = {
    "until", "do_sample", "temperature", "max_gen_toks", "max_new_tokens", "max_tokens",
    "max_completion_tokens",
}  # fmt: skip


class LikelihoodModel(Protocol):
    """Computes the log-likelihood of given continuations."""

    def score(
        self, pairs: Sequence[tuple[str | tuple[Message, ...], str]]
    ) -> list[tuple[float, bool]]:
        """Score continuations.

        Args:
            pairs: a text, or a conversation that is to be answered, and what follows it.

        Returns:
            For each the log-likelihood (nats), and whether greedy decoding would say it.
        """
        ...


class HarnessModel:
    """What the harness calls; `lm_eval_model` makes it a class that the harness accepts.

    Args:
        model: what answers.
        likelihoods: what scores continuations, or None.
    """

    def __init__(self, model: Model, *, likelihoods: LikelihoodModel | None = None) -> None:
        super().__init__()
        self._model = Gathering(model)
        self._likelihoods = likelihoods
        self._loop = LoopThread()

    @property
    def tokenizer_name(self) -> str:
        """Names the chat format in the harness's own caches."""
        contender = self._model.contender
        return f"stillwatch:{contender.name}:{contender.identity}"

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Give the template's text: none, because the model lays out its own conversations."""
        return ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Keep a conversation as what it is.

        Args:
            chat_history: turns with role and content.
            add_generation_prompt: False when the last turn is the beginning of the answer.

        Returns:
            The turns as a text that `generate_until` reads.
        """
        return _CONVERSATION + json.dumps(chat_history, ensure_ascii=False)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answer.

        Args:
            requests: instances whose `args` are a context and the generation's settings.
            disable_tqdm: the harness's; there is no bar here.

        Returns:
            One text a request, cut before the first text that ends it.
        """
        return self._loop.run(self._generate([request.args for request in requests]))

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Score continuations.

        Args:
            requests: instances whose `args` are a context and its continuation.
            disable_tqdm: the harness's.

        Returns:
            Log-likelihood (nats) and whether it is the greedy continuation.

        Raises:
            InvalidInputError: the model has no weights here.
        """
        if self._likelihoods is None:
            self._refuse("log-likelihoods", "give likelihoods=Likelihoods.load(folder)")
        pairs = [(_context(context), continuation) for context, continuation in _args(requests)]
        return self._likelihoods.score(pairs)

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> NoReturn:
        """Refuse: perplexity of running text says nothing about a model that answers questions.

        Args:
            requests: not looked at.
            disable_tqdm: the harness's.

        Raises:
            InvalidInputError: always.
        """
        self._refuse("perplexity of running text", "run the harness's own `hf` model on the folder")

    def close(self) -> None:
        """End the thread that asks. A second call does nothing."""
        self._loop.close()

    async def _generate(self, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        questions = [_question(context, settings) for context, settings in asked]
        replies = await asyncio.gather(*map(self._model.ask, questions))
        texts = [reply.answers[0].text if reply.answers else "" for reply in replies]
        return [
            cut_at(text, _stops(settings)) for text, (_, settings) in zip(texts, asked, strict=True)
        ]

    def _refuse(self, what: str, hint: str) -> NoReturn:
        message = f"lm_eval: {self._model.contender.name} gives no {what}, only answers"
        raise InvalidInputError(message, hint=hint)


def lm_eval_model(model: Model, *, likelihoods: LikelihoodModel | None = None) -> Any:
    """Make a model that `lm_eval.simple_evaluate` takes as `model=`.

    Args:
        model: any model; a `Contender` says how many questions go in one call.
        likelihoods: what scores continuations, for tasks that need it.

    Returns:
        An instance of `lm_eval.api.model.LM`; call its `close` at the end.
    """
    with extra("eval"):
        base = importlib.import_module("lm_eval.api.model").LM
    made: Any = type("StillwatchLM", (HarnessModel, base), {})
    return made(model, likelihoods=likelihoods)


def run_lm_eval(
    models: Mapping[str, Model],
    tasks: Sequence[Any],
    *,
    metrics: Mapping[str, str] | None = None,
    likelihoods: Mapping[str, LikelihoodModel] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[TaskOutcomes]:
    """Run tasks on every model, and keep what came of each item.

    Args:
        models: by name; `teacher` and `untouched` have a meaning when outcomes are compared.
        tasks: names or task objects, as `lm_eval.simple_evaluate` takes them.
        metrics: which metric of a task counts, by task; the task's first by default.
        likelihoods: what scores continuations, by model.
        settings: passed on to `simple_evaluate`: `num_fewshot`, `limit`, `task_manager`, ...;
            conversations are on unless `apply_chat_template` is False.

    Returns:
        One outcome a task, for `compare_outcomes`.

    Raises:
        InvalidInputError: a metric that the task does not have item by item.
    """
    with extra("eval"):
        harness = importlib.import_module("lm_eval")
    given = {"apply_chat_template": True, "bootstrap_iters": 0}
    given |= {**(settings or {}), "log_samples": True}
    samples: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, model in models.items():
        wrapped = lm_eval_model(model, likelihoods=(likelihoods or {}).get(name))
        try:
            found = harness.simple_evaluate(model=wrapped, tasks=list(tasks), **given)
        finally:
            wrapped.close()
        for task, rows in found["samples"].items():
            samples.setdefault(task, {})[name] = rows
    return [
        _outcomes(task, by_model, (metrics or {}).get(task)) for task, by_model in samples.items()
    ]


def cut_at(text: str, stops: Sequence[str]) -> str:
    r"""Cut a text before the first of several texts.

    Args:
        text: an answer.
        stops: texts that end it; empty ones are ignored.

    Returns:
        What stands before.

    Example:
        >>> cut_at("4, because\n\nQ: 3?", ["Q:", ","])
        '4'
    """
    places = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def _outcomes(
    task: str, by_model: Mapping[str, list[dict[str, Any]]], metric: str | None
) -> TaskOutcomes:
    first = next(iter(by_model.values()))
    known = list(dict.fromkeys(name for row in first for name in row.get("metrics", ())))
    chosen = metric or (known[0] if known else "")
    # A task with several filters has a row for each; the first is the task's own reading.
    filters = {name: rows[0].get("filter") for name, rows in by_model.items() if rows}
    values: dict[str, dict[str, float]] = {}
    for name, rows in by_model.items():
        own = [row for row in rows if row.get("filter") == filters[name]]
        values[name] = {
            str(row["doc_id"]): _number(task, chosen, row=row, known=known) for row in own
        }
    return TaskOutcomes(task, chosen, values)


def _number(task: str, metric: str, *, row: Mapping[str, Any], known: Sequence[str]) -> float:
    value = row.get(metric)
    if not isinstance(value, int | float):
        rule = f"a number for each item of {task} (it has {', '.join(known) or 'none'})"
        reject("run_lm_eval", "metrics", rule, got=metric)
    return float(value)


def _args(requests: Sequence[Any]) -> list[tuple[str, str]]:
    return [(str(request.args[0]), str(request.args[1])) for request in requests]


def _context(context: str) -> str | tuple[Message, ...]:
    if not context.startswith(_CONVERSATION):
        return context
    turns = json.loads(context.removeprefix(_CONVERSATION))
    return tuple(Message(role=turn["role"], content=turn["content"]) for turn in turns)


def _question(context: str, settings: Mapping[str, Any]) -> Question:
    found = _context(context)
    messages = (Message(role="user", content=found),) if isinstance(found, str) else found
    limits = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
    given = [settings[name] for name in limits if settings.get(name) is not None]
    samples = settings.get("do_sample")
    temperature = 0.0 if samples is False else float(settings.get("temperature") or 0.0)
    parameters = {k: v for k, v in settings.items() if k not in _TRANSLATED and v is not None}
    parameters["temperature"] = temperature
    parameters["max_tokens"] = int(given[0]) if given else _DEFAULT_TOKENS
    if stops := [stop for stop in _stops(settings) if stop][:_MOST_STOPS]:
        parameters["stop"] = stops
    return Question(messages=messages, parameters=parameters)


def _stops(settings: Mapping[str, Any]) -> list[str]:
    until = settings.get("until") or []
    return [until] if isinstance(until, str) else list(until)
