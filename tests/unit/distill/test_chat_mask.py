"""What a student is shown of a conversation, and which tokens count, by several templates."""

from collections.abc import Callable
from typing import Any

import pytest

from stillwatch.distill.items import Example
from stillwatch.distill.training.chat_mask import MaskedIds, mask_examples, spells_special
from stillwatch.errors import InvalidInputError
from stillwatch.model.chat_template import PLAIN_TEMPLATE, ChatTemplate
from stillwatch.record.exchange import Answer, Message

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<|im_end|>"
    "{% endgeneration %}\n{% else %}{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Headers without a closing token, contents trimmed.
TRIMMED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n{{ m['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
#: The answer follows a blank, which byte pairs join with the word after it.
BRACKETS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[Q] {{ m['content'] }} [A]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
#: No token ends the assistant's turn.
ENDLESS = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
#: The prompt opens a thought, past turns lose theirs.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'].split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
#: The last turn shows its thought, earlier ones do not.
THOUGHTFUL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if loop.last and m['role'] == 'assistant' %}<think>\n{{ m.get('reasoning_content', '') }}"
    "\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in m.get('tool_calls', []) %}<tool_call>"
    "{{ {'name': c['function']['name'], 'arguments': c['function']['arguments']} | tojson }}"
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def read(tokenizer_of: Callable[..., Any]) -> Callable[..., tuple[ChatTemplate, MaskedIds, str]]:
    """Mask one example; give the template, the row, and the text of what counts."""

    def run(
        template: str, example: Example, *, loss_on: str = "answer"
    ) -> tuple[ChatTemplate, MaskedIds, str]:
        chat = ChatTemplate(tokenizer_of(["user assistant twice two"], template))
        [row] = mask_examples([example], chat, loss_on=loss_on)
        counted = [t for t, on in zip(row.token_ids, row.is_target, strict=True) if on]
        return chat, row, chat.tokenizer.decode(counted)

    return run


@pytest.mark.parametrize(
    ("template", "counted"),
    [
        (CHATML, "two<|im_end|>"),
        (TRIMMED, "two<|im_end|>"),
        (BRACKETS, " two<|im_end|>"),
        (ENDLESS, " two<|im_end|>"),
        (PLAIN_TEMPLATE, "two<|im_end|>"),
        (THINKING, "</think>\n\ntwo<|im_end|>"),
        (THOUGHTFUL, "<think>\n\n</think>\n\ntwo<|im_end|>"),
    ],
)
def test_only_the_answer_and_its_end_count(
    read: Callable[..., Any], example_of: Callable[..., Example], template: str, counted: str
) -> None:
    """After the very prompt that generation sees come the answer and one end; these count."""
    turns = (("user", "one"), ("assistant", "1"), ("user", "twice one"))
    if template == BRACKETS:
        turns = turns[2:]
    example = example_of(*turns, answer="two")
    chat, row, found = read(template, example)
    assert counted == found
    prompt = chat.token_ids(chat.prompt(example.item.messages))
    assert prompt == row.token_ids[: row.n_prompt]
    assert [False] * len(prompt) == row.is_target[: row.n_prompt]
    assert chat.eos_ids[0] == row.token_ids[-1]
    assert 1 == sum(t in chat.eos_ids for t in row.token_ids[row.n_prompt :])


def test_the_mask_is_that_of_generation_markers(
    read: Callable[..., Any], example_of: Callable[..., Example]
) -> None:
    """Where a template marks the assistant's turns itself, ours are the same tokens."""
    turns = (("system", "s"), ("user", "one"), ("assistant", "1 two"), ("user", "twice one"))
    chat, row, found = read(CHATML, example_of(*turns, answer="two"), loss_on="assistant")
    whole = [{"role": r, "content": c} for r, c in (*turns, ("assistant", "two"))]
    theirs = chat.tokenizer.apply_chat_template(
        whole, return_assistant_tokens_mask=True, return_dict=True
    )
    n = len(row.token_ids)
    assert theirs["input_ids"][:n] == row.token_ids
    assert theirs["assistant_masks"][:n] == [int(on) for on in row.is_target]
    assert "1 two<|im_end|>two<|im_end|>" == found


def test_turns_that_change_are_passed_over(
    read: Callable[..., Any], example_of: Callable[..., Example]
) -> None:
    """An earlier turn that is rendered otherwise in the middle than at the end does not count."""
    turns = (("user", "one"), ("assistant", "1"), ("user", "twice one"))
    answer = Answer("two", "stop", reasoning="1+1")
    _, _, found = read(THOUGHTFUL, example_of(*turns, answer=answer), loss_on="assistant")
    assert "<think>\n1+1\n</think>\n\ntwo<|im_end|>" == found


def test_a_thought_that_the_prompt_opens_is_closed(
    read: Callable[..., Any], example_of: Callable[..., Example]
) -> None:
    """With a prompt that ends in a think tag, the recorded reasoning comes first."""
    answer = Answer("two", "stop", reasoning="1+1")
    _, _, found = read(THINKING, example_of(("user", "twice one"), answer=answer))
    assert "1+1\n</think>\n\ntwo<|im_end|>" == found


@pytest.mark.parametrize(
    "extra",
    [
        '{"tool_calls":[{"id":"c1","type":"function","function":{"name":"add","arguments":"{\\"a\\":1}"}}]}',
        '{"parts":[{"type":"tool_use","id":"c1","name":"add","input":{"a":1}}]}',
        '{"items":[{"type":"function_call","call_id":"c1","name":"add","arguments":"{\\"a\\":1}"}]}',
    ],
)
def test_tool_calls_of_every_wire_are_learnt(
    read: Callable[..., Any], example_of: Callable[..., Example], extra: str
) -> None:
    """A call is part of the answer, whatever wire recorded it; tool definitions stand before."""
    tools = ({"type": "function", "function": {"name": "add"}},)
    example = example_of(("user", "one"), answer=Answer("", "tool_calls", extra=extra), tools=tools)
    chat, row, found = read(TOOLS, example)
    assert '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|im_end|>' == found
    assert '"function"' in chat.tokenizer.decode(row.token_ids[: row.n_prompt])


def test_tool_results_never_count(
    read: Callable[..., Any], example_of: Callable[..., Example]
) -> None:
    """With every assistant turn learnt, calls count and what the tools gave back does not."""
    call = '{"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]}'
    turns = (
        Message("user", "one"), Message("assistant", "", call),
        Message("tool", "42 two", '{"tool_call_id":"c1"}'),
    )  # fmt: skip
    _, _, found = read(TOOLS, example_of(*turns, answer="two"), loss_on="assistant")
    assert '<tool_call>{"name": "f", "arguments": {}}</tool_call><|im_end|>two<|im_end|>' == found


def test_a_cut_answer_teaches_no_end(
    read: Callable[..., Any], example_of: Callable[..., Example]
) -> None:
    """An answer that was cut at a length is learnt without the end that it never had."""
    for reason in ("length", "max_tokens"):
        _, _, found = read(CHATML, example_of(("user", "one"), answer=Answer("two", reason)))
        assert "two" == found


def test_texts_that_spell_special_tokens(
    tokenizer_of: Callable[..., Any], example_of: Callable[..., Example]
) -> None:
    """A text that would step out of its turn is found; words like it are not."""
    chat = ChatTemplate(tokenizer_of(["a"], CHATML))
    assert spells_special(example_of(("user", "a<|im_end|>b"), answer="c"), chat)
    assert spells_special(example_of(("user", "a"), answer="c<|endoftext|>"), chat)
    assert not spells_special(example_of(("user", "<|im|>"), answer="im_end"), chat)


def test_a_conversation_that_the_template_refuses(
    tokenizer_of: Callable[..., Any], example_of: Callable[..., Example]
) -> None:
    """The roles are named, never the texts."""
    strict = "{{ raise_exception('no') }}"
    chat = ChatTemplate(tokenizer_of(["a"], strict))
    with pytest.raises(InvalidInputError, match=r"refuses the roles \['user'\]") as caught:
        list(mask_examples([example_of(("user", "secret"), answer="c")], chat))
    assert "secret" not in str(caught.value)


def test_the_template_has_a_hash_of_its_own(tokenizer_of: Callable[..., Any]) -> None:
    """Equal templates have equal hashes, and one letter changes it."""
    hashes = [
        ChatTemplate(tokenizer_of(["a"], text)).sha256 for text in (CHATML, CHATML, CHATML + " ")
    ]
    assert hashes[0] == hashes[1] != hashes[2]
