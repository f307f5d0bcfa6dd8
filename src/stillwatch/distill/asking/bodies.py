"""What goes over the wire for an item, and the key that says whether it was asked before.

A teacher's table is compiled once into `Bodies`; an item then costs a few microseconds. The key is
the SHA-256 of canonical JSON of all that decides an answer: wire, endpoint, model, the conversation
with its system turn, tools, every parameter, and which sample of several it is. A change in any of
them asks anew; nothing else does.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import msgspec

from stillwatch.distill.asking.teacher import TeacherTable, identify
from stillwatch.distill.items import Item
from stillwatch.record.exchange import Message, canonical_json
from stillwatch.wire import chat, messages, responses
from stillwatch.wire.body import keep, kept
from stillwatch.wire.chat_stream import dict_of, list_of, text_of
from stillwatch.wire.question import Question

#: Version of the key's content; another one asks everything anew.
_KEY_VERSION = 1
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_ENCODERS = {
    "openai.chat": chat.encode_request,
    "openai.responses": responses.encode_request,
    "anthropic.messages": messages.encode_request,
    "folder": chat.encode_request,
}


class Bodies:
    """Questions of one teacher: their keys and their bytes.

    Args:
        teacher: the table.

    Attributes:
        identity: which teacher it is.
    """

    def __init__(self, teacher: TeacherTable) -> None:
        self.identity = identify(teacher)
        self._teacher = teacher
        self._encode = _ENCODERS[teacher.wire]
        self._system = (Message("system", teacher.system),) if teacher.system else ()
        self._seed = teacher.parameters.get("seed")
        self._parameters = {**teacher.parameters, **_logprob_parameters(teacher)}
        if teacher.wire == "openai.responses" and "max_tokens" in self._parameters:
            self._parameters["max_output_tokens"] = self._parameters.pop("max_tokens")
        self._is_chat = teacher.wire == "openai.chat"
        head = {"model": teacher.model} if teacher.model else {}
        self._left = _encode(head)[:-1] + (b"," if head else b"") + b'"messages":'
        self._right = _encode(self._parameters)[1:] if self._parameters else b"}"
        self._right = (b"," if self._parameters else b"") + self._right
        # The key's fixed fields stand around the item's, all names in sorted order.
        endpoint = teacher.endpoint_id or self.identity.endpoint
        self._key_left = b'{"endpoint":%b,"headers":%b,"messages":' % (
            _encode(endpoint),
            _encode_sorted(teacher.headers),
        )
        self._key_middle = b',"model":%b,"parameters":%b,"sample":' % (
            _encode(teacher.model),
            _encode_sorted(self._parameters),
        )
        self._key_right = b',"version":%d,"wire":%b}' % (_KEY_VERSION, _encode(teacher.wire))

    def conversation(self, item: Item) -> tuple[Message, ...]:
        """The turns that are sent, the teacher's system turn included."""
        if self._system and not (item.messages and item.messages[0].role == "system"):
            return self._system + item.messages
        return item.messages

    def parameters(self, item: Item) -> dict[str, Any]:
        """The parameters that are sent; further samples move the seed, or all would be equal."""
        if item.sample and isinstance(self._seed, int):
            return {**self._parameters, "seed": self._seed + item.sample}
        return self._parameters

    def key(self, item: Item) -> str:
        """The request key, 64 hex digits."""
        asked = b"".join((
            self._key_left,
            _encode_sorted(self.conversation(item)),
            self._key_middle,
            b"%d" % item.sample,
            b',"tools":',
            _encode_sorted(item.tools),
            self._key_right,
        ))
        return hashlib.sha256(asked).hexdigest()

    def question(self, item: Item) -> Question:
        """The question in the shapes of the wire, tools among its parameters."""
        parameters = self.parameters(item)
        if item.tools:
            parameters = {**parameters, "tools": _wire_tools(item.tools, self._teacher.wire)}
        turns = _wire_turns(self.conversation(item), self._teacher.wire)
        return Question(messages=turns, model=self._teacher.model, parameters=parameters)

    def encode(self, item: Item, *, stream: bool = False) -> bytes:
        """The body to send."""
        plain = self._is_chat and not stream and not item.tools
        if plain and not (item.sample and self._seed is not None):
            turns = self.conversation(item)
            if all(turn.extra is None for turn in turns):
                return b"".join((self._left, _encode(turns), self._right))
        return self._encode(self.question(item), stream=stream)


def bodies_of(teacher: TeacherTable) -> Bodies:
    """Compile a teacher's table, or give what was compiled before.

    Args:
        teacher: the table.

    Returns:
        Its `Bodies`.
    """
    # A folder may be trained anew under the same name, so its digest is looked at again.
    digest = identify(teacher).endpoint if teacher.wire == "folder" else ""
    return _compiled(canonical_json(teacher), digest)


@lru_cache(maxsize=16)
def _compiled(table: str, digest: str) -> Bodies:  # the digest is part of the cache's key only
    return Bodies(msgspec.json.decode(table, type=TeacherTable))


def _logprob_parameters(teacher: TeacherTable) -> dict[str, Any]:
    if not teacher.logprobs:
        return {}
    if teacher.wire == "openai.responses":
        told = list_of(teacher.parameters.get("include"))
        include = [*told, "message.output_text.logprobs"]
        return {"include": include, "top_logprobs": teacher.logprobs}
    return {"logprobs": True, "top_logprobs": teacher.logprobs}


def _wire_tools(tools: tuple[dict[str, Any], ...], wire: str) -> list[dict[str, Any]]:
    """Turn tool definitions of the Chat Completions shape into the wire's."""
    if wire in {"openai.chat", "folder"}:
        return list(tools)
    found = []
    for tool in tools:
        inner = dict_of(tool.get("function"))
        if not inner:  # already in the wire's shape, or a tool of the vendor's own
            found.append(tool)
        elif wire == "openai.responses":
            found.append({"type": "function", **inner})
        else:
            schema = inner.get("parameters") or {"type": "object", "properties": {}}
            more = {k: v for k, v in inner.items() if k not in {"parameters", "strict"}}
            found.append({**more, "input_schema": schema})
    return found


def _wire_turns(turns: tuple[Message, ...], wire: str) -> tuple[Message, ...]:
    """Turn calls and their results of the Chat Completions shape into the wire's."""
    if wire in {"openai.chat", "folder"} or all(turn.extra is None for turn in turns):
        return turns
    turned: list[Message] = []
    for turn in turns:
        more = kept(turn.extra)
        calls = [call for call in map(dict_of, list_of(more.pop("tool_calls", []))) if call]
        answered = more.pop("tool_call_id", None)
        if not calls and answered is None:
            turned.append(turn)
        elif wire == "openai.responses":
            turned += _response_turns(turn, calls, answered)
        else:
            turned.append(_messages_turn(turn, calls, answered))
    return tuple(turned)


def _response_turns(turn: Message, calls: list[dict[str, Any]], answered: object) -> list[Message]:
    if answered is not None:
        item = {"type": "function_call_output", "call_id": answered, "output": turn.content}
        return [Message("tool", turn.content, keep({"item": item}))]
    found = [Message(turn.role, turn.content)] if turn.content else []
    for call in calls:
        inner = dict_of(call.get("function"))
        item = {
            "type": "function_call",
            "call_id": call.get("id"),
            "name": inner.get("name"),
            "arguments": inner.get("arguments"),
        }
        found.append(Message("assistant", "", keep({"item": item})))
    return found


def _messages_turn(turn: Message, calls: list[dict[str, Any]], answered: object) -> Message:
    if answered is not None:
        return Message("tool", turn.content, keep({"tool_use_id": answered}))
    parts = []
    for call in calls:
        inner = dict_of(call.get("function"))
        block = {"type": "tool_use", "id": call.get("id"), "name": inner.get("name")}
        parts.append({**block, "input": _arguments(inner.get("arguments"))})
    return Message(turn.role, turn.content, keep({"parts": parts}))


def _arguments(text: object) -> dict[str, Any]:
    try:
        return dict_of(msgspec.json.decode(text_of(text) or "{}"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
