"""The four wires that the gateway reads: how each asks, answers and refuses.

A route knows nothing of these differences; it holds one `Wire` and asks it. Adding a wire is one
class here and one line in `wire_of`.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from stillwatch.errors import ModelError
from stillwatch.guard.routes.reading import plain_json
from stillwatch.record.exchange import Exchange
from stillwatch.wire import chat, completions, messages, responses
from stillwatch.wire.body import open_reply, open_request
from stillwatch.wire.chat import BadRequestError, ChunkAssembler
from stillwatch.wire.chat_stream import dict_of, error_code, list_of, text_of
from stillwatch.wire.completions import TextAssembler
from stillwatch.wire.messages_stream import MessageAssembler
from stillwatch.wire.question import Question, Reply
from stillwatch.wire.responses_stream import ResponseAssembler

_T = TypeVar("_T")
_NOTHING: Final = Reply(answers=())
UNREADABLE: Final = "unreadable_answer"
_MOST: Final = 1_000_000


class Parsed(NamedTuple):
    """A question as its wire carried it.

    Attributes:
        question: what is asked.
        is_streamed: whether the answer shall come as server-sent events.
        session: the conversation that the client names, else the answer that it follows, or None.
        refers_to: ids of stored answers and conversations that the question builds on, in order;
            the first one is the answer that it follows, if it follows one.
        n_answers: answers asked for (count), each of which a throttle counts.
    """

    question: Question
    is_streamed: bool
    session: str | None = None
    refers_to: tuple[str, ...] = ()
    n_answers: int = 1


class Read(NamedTuple):
    """An answer as its wire carried it.

    Attributes:
        reply: what was answered; no answers where none could be read.
        error: short code of a failure told inside a reply of status 200, or "unreadable_answer".
        response_id: the id by which a later question can build on this answer; None without.
    """

    reply: Reply
    error: str | None = None
    response_id: str | None = None


class Wire(Protocol):
    """How one API asks, answers and refuses.

    Attributes:
        name: openai.chat, openai.responses, anthropic.messages, openai.completions.
        id_header: the header line that names a request, in lower case.
        key_header: the header line that a key travels in, in lower case.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - above

    @property
    def id_header(self) -> bytes: ...  # noqa: D102 - above

    @property
    def key_header(self) -> str: ...  # noqa: D102 - above

    def parse(self, body: bytes) -> Parsed:
        """Read a question.

        Args:
            body: the request's bytes, not compressed.

        Returns:
            The question.

        Raises:
            BadRequestError: not JSON, or nothing that the wire can ask.
        """
        ...

    def read(self, body: bytes, *, streamed: bool) -> Read:
        """Read an answer; never fails.

        Args:
            body: bytes of a reply with status 200, not compressed; may be cut.
            streamed: they are server-sent events.

        Returns:
            What came.
        """
        ...

    def join(self, question: Question, reply: Reply, circumstances: Exchange) -> Exchange:
        """Join what was asked and answered to who asked, when and how.

        Args:
            question: as parsed.
            reply: as read.
            circumstances: everything else.

        Returns:
            The exchange to record.
        """
        ...

    def refusal(
        self, status: int, message: str, *, code: str, request_id: str | None = None
    ) -> bytes:
        """Write an error in the wire's own shape.

        Args:
            status: HTTP status that goes with it.
            message: one sentence for the person who asked.
            code: short code that programs switch on; Anthropic's shape has no place for it.
            request_id: the request's id; OpenAI's shape has no place for it.

        Returns:
            JSON bytes.
        """
        ...


class _OpenAI:
    """What the three wires of one vendor share."""

    id_header = b"x-request-id"
    key_header = "authorization"

    def refusal(
        self, status: int, message: str, *, code: str, request_id: str | None = None
    ) -> bytes:
        return chat.encode_error(status, message, code=code)


class _Chat(_OpenAI):
    name = "openai.chat"

    def parse(self, body: bytes) -> Parsed:
        question, is_streamed, _ = _tolerant(chat.parse_chat_request, body)
        if question.parameters.get("n", 1) == 1:
            return Parsed(question, is_streamed)
        return Parsed(question, is_streamed, n_answers=answers_asked(self.name, question))

    def read(self, body: bytes, *, streamed: bool) -> Read:
        return _read_chunks(ChunkAssembler() if streamed else None, body)

    def join(self, question: Question, reply: Reply, circumstances: Exchange) -> Exchange:
        return chat.exchange_from(question, reply, circumstances=circumstances)


class _Completions(_OpenAI):
    name = "openai.completions"

    def parse(self, body: bytes) -> Parsed:
        question, is_streamed = _tolerant(completions.parse_completions_request, body)
        return Parsed(question, is_streamed, n_answers=answers_asked(self.name, question))

    def read(self, body: bytes, *, streamed: bool) -> Read:
        return _read_chunks(TextAssembler() if streamed else None, body)

    def join(self, question: Question, reply: Reply, circumstances: Exchange) -> Exchange:
        return completions.exchange_from(question, reply, circumstances=circumstances)


class _Responses(_OpenAI):
    name = "openai.responses"

    def parse(self, body: bytes) -> Parsed:
        return _tolerant(_parse_responses, body)

    def read(self, body: bytes, *, streamed: bool) -> Read:
        if streamed:
            assembler = ResponseAssembler()
            assembler.feed(body)
            reply = assembler.reply()
            return Read(reply, assembler.error_code, assembler.response_id or None)
        found = open_reply(body)
        if not isinstance(found.get("output"), list):
            return Read(_NOTHING, UNREADABLE)
        failed = found.get("error")
        error = error_code(failed) if failed is not None else None
        return Read(responses.reply_from(found), error, text_of(found.get("id")) or None)

    def join(self, question: Question, reply: Reply, circumstances: Exchange) -> Exchange:
        return responses.exchange_from(question, reply, circumstances=circumstances)


class _Messages:
    name = "anthropic.messages"
    id_header = b"request-id"
    key_header = "x-api-key"

    def parse(self, body: bytes) -> Parsed:
        question, is_streamed = _tolerant(messages.parse_messages_request, body)
        return Parsed(question, is_streamed, _session_of(question.parameters.get("metadata")))

    def read(self, body: bytes, *, streamed: bool) -> Read:
        if streamed:
            assembler = MessageAssembler()
            assembler.feed(body)
            reply = assembler.reply()
            return Read(reply, assembler.error_code)
        try:
            return Read(messages.parse_response(body))
        except ModelError:
            return Read(_NOTHING, UNREADABLE)

    def join(self, question: Question, reply: Reply, circumstances: Exchange) -> Exchange:
        return messages.exchange_from(question, reply, circumstances=circumstances)

    def refusal(
        self, status: int, message: str, *, code: str, request_id: str | None = None
    ) -> bytes:
        return messages.encode_error(status, message, request_id=request_id)


CHAT: Final[Wire] = _Chat()
RESPONSES: Final[Wire] = _Responses()
MESSAGES: Final[Wire] = _Messages()
COMPLETIONS: Final[Wire] = _Completions()


@lru_cache(1024)
def wire_of(path: str) -> Wire | None:
    """Say which wire a question on a path speaks.

    Servers offer the routes under several prefixes; all of them are read. Spellings that some
    server may take for the same route (`//`, `/./`, other case) are read too, or they would be ways
    round the wall.

    Args:
        path: of a POST request, percent-encoding undone.

    Returns:
        The wire, or None for a route that is not read.
    """
    names = _names(path)
    if names[-2:] == ["chat", "completions"]:
        return CHAT
    last = names[-1] if names else ""
    if last == "messages":
        # OpenAI's assistants have threads, whose messages are not Anthropic's.
        return None if "threads" in names else MESSAGES
    return {"responses": RESPONSES, "completions": COMPLETIONS}.get(last)


@lru_cache(1024)
def _speaks_anthropic(path: str) -> bool:
    names = _names(path)
    return "messages" in names and not {"threads", "chat"} & set(names)


def shape_of(path: str, headers: Mapping[bytes, bytes]) -> Wire:
    """Say in whose shape an error on a route that is not read must come.

    Args:
        path: of the request.
        headers: the request's, names in lower case.

    Returns:
        Messages where the path or the client's headers are Anthropic's, else Chat Completions.
    """
    is_anthropic = b"anthropic-version" in headers or _speaks_anthropic(path)
    return MESSAGES if is_anthropic else CHAT


def answers_asked(wire_name: str, question: Question) -> int:
    """Count the answers that a question asks for; servers take 5, 5.0 and "5" alike.

    Args:
        wire_name: the wire's, or "other" as legacy Completions are recorded.
        question: as parsed.

    Returns:
        Answers (count), at least 1: `n` of each prompt, or `best_of` where that is more.
    """
    most = 1
    for name in ("n", "best_of"):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            most = max(most, min(int(float(question.parameters.get(name, 1))), _MOST))
    is_prompts = wire_name in {"openai.completions", "other"}
    return most * max(1, len(question.messages)) if is_prompts else most


def _names(path: str) -> list[str]:
    normal = posixpath.normpath(path.lower())
    return [name for name in normal.split("/") if name]


def _tolerant(parse: Callable[[bytes], _T], body: bytes) -> _T:
    """Parse; what some model server reads all the same must not pass unread."""
    try:
        return parse(body)
    except BadRequestError:
        plain = plain_json(body)
        if plain is None or plain is body:
            raise
    return parse(plain)


def _parse_responses(body: bytes) -> Parsed:
    found = open_request(body, wire="responses")
    refers_to = []
    previous = found.get("previous_response_id")
    if isinstance(previous, str):
        refers_to.append(previous)
    conversation = found.get("conversation")
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    if isinstance(conversation, str):
        refers_to.append(conversation)
    items = list_of(found.get("input"))
    for item in filter(None, map(dict_of, items)):
        # A reference may leave its type out; nothing else comes without type and role.
        if not (item.get("type") or item.get("role")):
            item["type"] = "item_reference"
        if item.get("type") == "item_reference" and isinstance(item.get("id"), str):
            refers_to.append(item["id"])
    question = responses.question_from(found)
    session = responses.session_of(found)
    return Parsed(question, found.get("stream") is True, session, tuple(refers_to))


def _read_chunks(assembler: ChunkAssembler | TextAssembler | None, body: bytes) -> Read:
    if assembler is None:
        try:
            return Read(chat.parse_response(body))
        except ModelError:
            return Read(_NOTHING, UNREADABLE)
    assembler.feed(body)
    reply = assembler.reply()
    return Read(reply, assembler.error_code)


def _session_of(metadata: Any) -> str | None:
    """Find the session that Claude Code packs into `metadata.user_id`, as JSON or as a text."""
    named = dict_of(metadata).get("user_id")
    if not isinstance(named, str):
        return None
    if named.startswith("{"):
        try:
            session = dict_of(msgspec.json.decode(named)).get("session_id")
        except (msgspec.DecodeError, RecursionError):
            return None
        return session if isinstance(session, str) else None
    head, _, session = named.partition("_session_")
    return session if session and "_account_" in head else None
