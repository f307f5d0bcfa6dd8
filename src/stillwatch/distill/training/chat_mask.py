"""Examples as token ids, with a mask of the tokens that the loss may count.

The prompt is rendered and cut into tokens as generation will see it; the answer follows it, up to
and with the token that ends it. Whatever the template puts after that is not fed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from stillwatch.distill.items import Example
from stillwatch.model.chat_template import ChatTemplate
from stillwatch.model.chat_turns import answer_turn, template_turns
from stillwatch.record.exchange import Answer

#: Texts that the tokenizer gets at once.
_CHUNK = 512
#: How the three wires name an answer that was cut.
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "incomplete"})


class MaskedIds(NamedTuple):
    """One example as the student sees it.

    Attributes:
        token_ids: the conversation and the answer.
        is_target: whether the loss counts the token, one a token id; the first never is.
        n_prompt: tokens before the answer (count).
    """

    token_ids: list[int]
    is_target: list[bool]
    n_prompt: int


class _Rendered(NamedTuple):
    prompt: str
    answer: str
    spans: list[tuple[int, int]]
    is_cut: bool


def mask_examples(
    examples: Sequence[Example], template: ChatTemplate, *, loss_on: str = "answer"
) -> Iterator[MaskedIds]:
    """Render examples and mark what the loss counts.

    Args:
        examples: any number.
        template: the student's.
        loss_on: "answer" for the teacher's answer alone; "assistant" for the assistant's earlier
            turns too, where the template renders them the same in the middle as at the end. What
            users, the system and tools said never counts.

    Yields:
        One row an example, in order.
    """
    waiting = iter(examples)
    while chunk := list(islice(waiting, _CHUNK)):
        rendered = [_render(example, template, loss_on=loss_on) for example in chunk]
        yield from _encode(rendered, template)


def has_answer(answer: Answer) -> bool:
    """Say whether there is anything to learn: text, or a tool call.

    Args:
        answer: the teacher's.

    Returns:
        Whether there is.
    """
    return bool(answer.text.strip()) or "tool_calls" in answer_turn(answer)


def is_cut(answer: Answer) -> bool:
    """Say whether an answer was cut at a length; its end is not one to learn.

    Args:
        answer: the teacher's, by any wire.

    Returns:
        Whether it was.
    """
    return answer.finish_reason in _CUT


def spells_special(example: Example, template: ChatTemplate) -> bool:
    """Say whether a text spells one of the tokenizer's special tokens.

    Such a text would be read as the token itself: a question that spells the end of its turn steps
    out of it, and an answer that spells it would teach to stop in the middle.

    Args:
        example: its turns and its answer are looked through.
        template: the student's.

    Returns:
        Whether one does.
    """
    names = template.special_texts
    texts = [*(message.content for message in example.item.messages), example.answer.text]
    return any(name in text for text in texts for name in names)


def _render(example: Example, template: ChatTemplate, *, loss_on: str) -> _Rendered:
    item = example.item
    turns = template_turns(item.messages)
    prompt = template.render(turns, tools=item.tools, opens_answer=True)
    whole = template.render([*turns, answer_turn(example.answer)], tools=item.tools)
    answer = answer_after(prompt, whole, example.answer)
    spans = []
    if loss_on == "assistant":
        spans = _earlier_spans(prompt, turns, template, tools=item.tools)
    return _Rendered(prompt, answer, spans, is_cut(example.answer))


def answer_after(prompt: str, whole: str, answer: Answer) -> str:
    """Find what follows the prompt when the answer is given.

    Most templates render the whole conversation as the prompt and then the answer. Some open a
    think tag in the prompt that they leave out of past turns; then the answer closes it.

    Args:
        prompt: the conversation up to where the answer begins.
        whole: the conversation with the answer.
        answer: the teacher's.

    Returns:
        The text of the answer with the end of its turn.
    """
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    shared = next(
        (i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b),
        min(len(prompt), len(whole)),
    )
    opened, rest = prompt[shared:], whole[shared:]
    if opened.strip() == "<think>":
        thought = f"{answer.reasoning.strip()}\n" if answer.reasoning else ""
        return f"{thought}</think>\n\n{rest.lstrip()}"
    return rest


def _earlier_spans(
    prompt: str, turns: list[dict[str, Any]], template: ChatTemplate, *, tools: Sequence[Any]
) -> list[tuple[int, int]]:
    """Find where the assistant's earlier turns stand in the prompt, in characters.

    A turn that the template renders differently once others follow it (thoughts are dropped, say)
    is passed over: generation will never see it as it stands there.
    """
    spans = []
    for i, turn in enumerate(turns):
        if turn["role"] != "assistant" or i == 0:
            continue
        head = template.render(turns[:i], tools=tools, opens_answer=True)
        upto = template.render(turns[: i + 1], tools=tools)
        if prompt.startswith(upto) and upto.startswith(head):
            spans.append((len(head), len(upto.rstrip())))
    return spans


def _encode(rendered: list[_Rendered], template: ChatTemplate) -> Iterator[MaskedIds]:
    prompts = template.tokenizer(
        [one.prompt for one in rendered],
        add_special_tokens=False,
        return_offsets_mapping=any(one.spans for one in rendered),
    )
    wholes = template.tokenizer(
        [one.prompt + one.answer for one in rendered], add_special_tokens=False
    )
    for n, one in enumerate(rendered):
        prompt_ids = [int(i) for i in prompts["input_ids"][n]]
        whole_ids = [int(i) for i in wholes["input_ids"][n]]
        if whole_ids[: len(prompt_ids)] == prompt_ids:
            answer_ids = whole_ids[len(prompt_ids) :]
        else:
            # The tokenizer joins the end of the prompt with the answer, which generation cannot.
            answer_ids = template.token_ids(one.answer)
        answer_ids = _end(answer_ids, template)
        if one.is_cut:
            answer_ids = answer_ids[:-1]
        is_target = [False] * len(prompt_ids) + [True] * len(answer_ids)
        for start, stop in one.spans:
            for i, (a, b) in enumerate(prompts["offset_mapping"][n]):
                is_target[i] = is_target[i] or (start <= a < b <= stop)
        is_target[0] = False  # nothing stands before it
        yield MaskedIds([*prompt_ids, *answer_ids], is_target, len(prompt_ids))


def _end(answer_ids: list[int], template: ChatTemplate) -> list[int]:
    """Cut after the last token that ends an answer, or add one: a student must learn to stop."""
    last = max((i for i, t in enumerate(answer_ids) if t in template.eos_ids), default=None)
    if last is not None:
        return answer_ids[: last + 1]
    while answer_ids and not template.decode(answer_ids[-1:]).strip():
        tail = template.tokenizer.decode(answer_ids[-1:])
        if tail.strip():
            break  # a special token: part of the turn's end
        answer_ids = answer_ids[:-1]
    return [*answer_ids, template.eos_ids[0]]
