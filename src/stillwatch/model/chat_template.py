"""A model folder's tokenizer and chat template: conversations to the text and ids a model reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillwatch.errors import InvalidInputError, RecordError, extra, reject
from stillwatch.model.chat_turns import template_turns
from stillwatch.record.exchange import Message

#: For base models without a template of their own. Line ends close the headers because tokenizers
#: do not join them with what follows, so that prompt and answer are cut at a token's border.
PLAIN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '### ' + message['role'] + '\\n' + message['content'] }}"
    "{%- if message['role'] == 'assistant' -%}{{ eos_token }}{%- endif -%}"
    "{{ '\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '### assistant\\n' }}{%- endif -%}"
)


class ChatTemplate:
    """A tokenizer with the template that conversations are rendered by. Use `load`.

    Args:
        tokenizer: a tokenizer of transformers with a chat template.
        eos_ids: tokens that end an answer, from the model's generation settings.
    """

    def __init__(self, tokenizer: Any, *, eos_ids: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        if tokenizer.chat_template is None:
            opens = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
            tokenizer.chat_template = ("{{ bos_token }}" if opens else "") + PLAIN_TEMPLATE
        own = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        self.eos_ids = tuple(dict.fromkeys([*own, *(int(i) for i in eos_ids)]))
        if not self.eos_ids:
            hint = "set eos_token in tokenizer_config.json"
            reject("chat template", "eos_token", "known to the tokenizer", got=None, hint=hint)

    @classmethod
    def load(
        cls, folder: Path | str, *, template: str = "", eos_ids: Sequence[int] = ()
    ) -> ChatTemplate:
        """Load a folder's tokenizer and template.

        Args:
            folder: a model folder, or a name on a hub.
            template: a file that holds another template; "" takes the folder's own, or the plain
                one where it has none.
            eos_ids: further tokens that end an answer.

        Returns:
            The template.

        Raises:
            RecordError: there is no tokenizer that transformers can read.
        """
        with extra("train"):
            from transformers import AutoTokenizer
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder))
        except (OSError, ValueError, KeyError) as error:
            message = f"{folder}: there is no tokenizer that transformers reads"
            hint = "it needs tokenizer.json and tokenizer_config.json"
            raise RecordError(message, hint=hint) from error
        if template:
            tokenizer.chat_template = Path(template).read_text("utf-8")
        return cls(tokenizer, eos_ids=eos_ids)

    @property
    def source(self) -> str:
        """The template's own text; of several, the one called default."""
        found = self.tokenizer.chat_template
        return str(found.get("default", "")) if isinstance(found, dict) else str(found)

    @property
    def sha256(self) -> str:
        """The hash of the template's text: students and scores of one run must share it."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def thinks(self) -> bool:
        """Whether the template knows think tags."""
        return "</think>" in self.source

    @property
    def special_texts(self) -> tuple[str, ...]:
        """The names of the special tokens, which a text must not spell."""
        return tuple(str(token) for token in self.tokenizer.all_special_tokens)

    @property
    def pad_id(self) -> int:
        """The token that fills rows; the first that ends an answer when there is none."""
        found = self.tokenizer.pad_token_id
        return self.eos_ids[0] if found is None else int(found)

    def prompt(self, messages: Sequence[Message], *, tools: Sequence[dict[str, Any]] = ()) -> str:
        """Render a conversation up to where the answer begins.

        Args:
            messages: the turns.
            tools: tool definitions.

        Returns:
            The text.
        """
        return self.render(template_turns(messages), tools=tools, opens_answer=True)

    def render(
        self,
        turns: Sequence[dict[str, Any]],
        *,
        tools: Sequence[dict[str, Any]] = (),
        opens_answer: bool = False,
    ) -> str:
        """Render turns.

        Args:
            turns: as `chat_turns.template_turns` lays them out.
            tools: tool definitions.
            opens_answer: end with the header of the assistant's next turn.

        Returns:
            The text.

        Raises:
            InvalidInputError: the template refuses the conversation, for example two user turns.
        """
        from jinja2 import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(turns),
                    tools=list(tools) or None,
                    add_generation_prompt=opens_answer,
                    tokenize=False,
                )
            )
        except (TemplateError, TypeError) as error:
            roles = [turn["role"] for turn in turns]
            message = f"chat template: the model's template refuses the roles {roles}"
            raise InvalidInputError(
                message, hint="give another template, or leave out what it does not know"
            ) from error

    def token_ids(self, text: str) -> list[int]:
        """Encode rendered text; special tokens that it spells are read as such.

        Args:
            text: as `render` gives it.

        Returns:
            Token ids, none added.
        """
        return [int(i) for i in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode an answer; special tokens leave no trace.

        Args:
            token_ids: ids of the vocabulary.

        Returns:
            The text.
        """
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))
