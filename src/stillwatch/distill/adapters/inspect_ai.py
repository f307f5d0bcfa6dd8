"""Run tasks of inspect-ai on any `Model`, tool calls included."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.distill.adapters.calling import Gathering
from stillwatch.distill.adapters.outcomes import TaskOutcomes
from stillwatch.errors import ModelError, extra, reject
from stillwatch.model.protocol import Model, Question, Reply
from stillwatch.record.exchange import Answer, Message, canonical_json
from stillwatch.wire.body import kept

#: Settings of inspect-ai and their names on the wire.
_SETTINGS = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop_seqs": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "num_choices": "n",
}
_STOP_REASONS = {
    "stop": "stop", "end_turn": "stop", "stop_sequence": "stop", "completed": "stop",
    "length": "max_tokens", "max_tokens": "max_tokens", "max_output_tokens": "max_tokens",
    "tool_calls": "tool_calls", "tool_use": "tool_calls",
    "content_filter": "content_filter", "refusal": "content_filter",
}  # fmt: skip
#: What inspect-ai's own scorers say, as numbers.
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_PROVIDER = "stillwatch"


class InspectModel:
    """What inspect-ai calls; `inspect_model` makes it a class that inspect-ai accepts.

    Args:
        model_name: as inspect-ai names it.
        base_url: not used.
        api_key: not used.
        config: inspect-ai's settings.
        model: what answers.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        config: Any,
        model: Model,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)  # type: ignore[call-arg]
        self._gathering = Gathering(model)

    def max_connections(self) -> int:
        """Questions that may be under way at once (count): as many as fill the model's calls."""
        contender = self._gathering.contender
        return contender.batch * contender.calls

    def connection_key(self) -> str:
        """Name the model, so that two of them do not wait for each other."""
        return f"{self._gathering.contender.name}:{id(self)}"

    async def generate(  # noqa: PLR0917 - called by inspect-ai in this order
        self,
        input: list[Any],  # noqa: A002 - the name that inspect-ai calls it by
        tools: list[Any],
        tool_choice: Any,
        config: Any,
    ) -> Any:
        """Answer a conversation.

        Args:
            input: inspect-ai's messages.
            tools: its tool definitions.
            tool_choice: "auto", "any", "none", or a tool.
            config: its settings.

        Returns:
            Its `ModelOutput`.
        """
        parameters = {
            ours: value
            for theirs, ours in _SETTINGS.items()
            if (value := getattr(config, theirs, None)) is not None
        }
        if tools:
            parameters["tools"] = [_tool(tool) for tool in tools]
            parameters["tool_choice"] = _choice(tool_choice)
        question = Question(messages=tuple(map(_message, input)), parameters=parameters)
        return _output(await self._gathering.ask(question))


def inspect_model(model: Model, *, settings: Mapping[str, Any] | None = None) -> Any:
    """Make a model that `inspect_ai.eval` takes as `model=`.

    Args:
        model: any model; a `Contender` says how many questions go in one call.
        settings: inspect-ai's generation settings, the same for every question: `temperature`,
            `max_tokens`, `seed`, ...

    Returns:
        An `inspect_ai.model.Model`.
    """
    with extra("eval"):
        found = importlib.import_module("inspect_ai.model")
    api: Any = type("StillwatchAPI", (InspectModel, found.ModelAPI), {})
    registered = found.modelapi(name=_PROVIDER)(api)
    config = found.GenerateConfig(**(settings or {}))
    return found.Model(registered(model.name, config=config, model=model), config)


def run_inspect(
    models: Mapping[str, Model],
    tasks: Any,
    *,
    log_folder: Path,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[TaskOutcomes]:
    """Run tasks on every model, and keep what came of each item.

    Args:
        models: by name; `teacher` and `untouched` have a meaning when outcomes are compared.
        tasks: as `inspect_ai.eval` takes them.
        log_folder: where inspect-ai writes its logs.
        settings: generation settings, the same for all models.
        options: passed on to `inspect_ai.eval`: `limit`, `epochs`, `max_samples`, ...

    Returns:
        One outcome for each scorer of each task, for `compare_outcomes`: the mean over epochs.

    Raises:
        ModelError: an evaluation did not end well.
        InvalidInputError: a score that is neither a number nor one of inspect-ai's letters.
    """
    with extra("eval"):
        inspect = importlib.import_module("inspect_ai")
    values: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
    given = {"display": "none", **(options or {}), "log_dir": str(log_folder)}
    for name, model in models.items():
        wrapped = inspect_model(model, settings=settings)
        for log in inspect.eval(tasks, model=wrapped, **given):
            if log.status != "success":
                message = f"inspect-ai: {log.eval.task} on {name} ended with status {log.status}"
                raise ModelError(message, hint="its log in the log folder says why")
            for sample in log.samples or ():
                for scorer, score in (sample.scores or {}).items():
                    own = values.setdefault((log.eval.task, scorer), {}).setdefault(name, {})
                    own.setdefault(str(sample.id), []).append(_value(scorer, score.value))
    return [
        TaskOutcomes(
            task,
            scorer,
            {
                name: {item: sum(got) / len(got) for item, got in items.items()}
                for name, items in by_model.items()
            },
        )
        for (task, scorer), by_model in values.items()
    ]


def _value(scorer: str, value: object) -> float:
    if isinstance(value, str) and value in _LETTERS:
        return _LETTERS[value]
    if not isinstance(value, bool | int | float):
        rule = f"a number or one of {', '.join(_LETTERS)}"
        reject(f"inspect-ai scorer {scorer}", "score", rule, got=type(value).__name__)
    return float(value)


def _message(turn: Any) -> Message:
    """Read a turn of inspect-ai's; what is neither text nor a tool call is refused."""
    parts = turn.content if isinstance(turn.content, list) else []
    foreign = sorted({part.type for part in parts} - {"text", "reasoning"})
    if foreign:
        reject("inspect-ai message", "content", "text", got=", ".join(foreign))
    more: dict[str, Any] = {}
    if calls := getattr(turn, "tool_calls", None):
        more["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.function,
                    "arguments": msgspec.json.encode(call.arguments).decode(),
                },
            }
            for call in calls
        ]
    if turn.role == "tool":
        more["tool_call_id"] = turn.tool_call_id or ""
    return Message(role=turn.role, content=turn.text, extra=canonical_json(more) if more else None)


def _tool(tool: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters.model_dump(exclude_none=True),
        },
    }


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return "required" if choice == "any" else choice
    return {"type": "function", "function": {"name": choice.name}}


def _output(reply: Reply) -> Any:
    found = importlib.import_module("inspect_ai.model")
    choices = [
        found.ChatCompletionChoice(
            message=found.ChatMessageAssistant(
                content=answer.text,
                source="generate",
                model=reply.model_returned or None,
                tool_calls=_calls(answer) or None,
            ),
            stop_reason=_STOP_REASONS.get(answer.finish_reason, "unknown"),
        )
        for answer in reply.answers
    ]
    usage = found.ModelUsage(
        input_tokens=reply.input_tokens or 0,
        output_tokens=reply.output_tokens or 0,
        total_tokens=(reply.input_tokens or 0) + (reply.output_tokens or 0),
    )
    return found.ModelOutput(model=reply.model_returned, choices=choices, usage=usage)


def _calls(answer: Answer) -> Sequence[Any]:
    made = importlib.import_module("inspect_ai.tool").ToolCall
    calls = []
    for call in kept(answer.extra).get("tool_calls") or ():
        named = call.get("function") or {}
        text = named.get("arguments") or "{}"
        error = None
        try:
            arguments = msgspec.json.decode(text) if isinstance(text, str) else text
        except msgspec.DecodeError:
            arguments, error = {}, "the arguments are not JSON"
        if not isinstance(arguments, dict):
            arguments, error = {}, "the arguments are not an object"
        calls.append(
            made(
                id=call.get("id") or "",
                function=named.get("name") or "",
                arguments=arguments,
                parse_error=error,
                type="function",
            )
        )
    return calls
