"""Anthropic's Message Batches: the questions as they were sent and the results file's answers.

The questions are lines `{custom_id, params}`, or the body that made the batch, `{"requests":
[...]}`; the results file has a line `{custom_id, result}` an answer, in any order, whose result
succeeded, errored, was canceled or expired. Both are read together and joined by `custom_id`. The
batch object itself (`type: message_batch`) may be among the records, before the files: it gives
times, which nothing else in these files does.

Account: `metadata.user_id` of the question (the application's end user), else none: the files do
not say whose key sent them. The tag `batch` names the batch, from the file's name; it does not
stand in for the account, because one customer's hundred batches would then look like a web of
accounts.

Time: the batch object's, else the last one known in the log, else none; the tag `time` says which:
batch, neighbour, unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from stillwatch.logs.api_bodies import join, person_of, read_returned
from stillwatch.logs.batches import Batches, in_requests
from stillwatch.logs.fields import malformed, record_of, text
from stillwatch.logs.halves import Half, Halves, Pair
from stillwatch.logs.reader import JsonReader, Origin, ReadOptions
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Exchange
from stillwatch.wire.chat_stream import dict_of, text_of

_WANTED = "a question or a result of an Anthropic batch, with custom_id"
_RESULTS = frozenset({"succeeded", "errored", "canceled", "expired"})


class AnthropicBatch(JsonReader):
    """The reader of Anthropic batches.

    Attributes:
        name: as `--format` takes it.
        title: as people call it.
        shape: JSON, lines or array.
    """

    name = "anthropic_batch"
    title = "Anthropic Message Batches"
    shape = "json"

    def recognise(self, record: Any) -> str | None:
        """Say on what ground a record is of this format; see `Reader`.

        Args:
            record: a decoded record.

        Returns:
            The ground, or None.
        """
        if not isinstance(record, Mapping):
            return None
        if record.get("type") == "message_batch" and "processing_status" in record:
            return "is a batch object with processing_status"
        lines = in_requests(record)
        first = dict_of(lines[0] if lines else None)
        if "custom_id" not in first:
            return None
        if text_of(dict_of(first.get("result")).get("type")) in _RESULTS:
            return "has custom_id and result.type as a batch's results have"
        if isinstance(first.get("params"), Mapping):
            return "has custom_id and params as a batch's questions have"
        return None


class _Conversion(Tally):
    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options
        self._halves = Halves()
        self._batches = Batches(options)

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        found = record_of(record, origin=origin, wanted=_WANTED)
        if found.get("type") == "message_batch":
            self._batches.note(found, names=("id",))
            self.joined += 1
            return
        yield from self.each(in_requests(found), origin, read=lambda line: self._line(line, origin))

    def finish(self) -> Iterable[Exchange]:
        return self._paired(self._halves.rest())

    def _line(self, line: Any, origin: Origin) -> Iterator[Exchange]:
        found = record_of(line, origin=origin, wanted=_WANTED)
        key = text(found.get("custom_id"))
        if key is None:
            malformed(origin, _WANTED, got="one without")
        if isinstance(found.get("params"), Mapping):
            pairs = self._halves.add(key, Half(found, origin), side="question")
        elif isinstance(found.get("result"), Mapping):
            pairs = self._halves.add(key, Half(found, origin), side="answer")
        else:
            malformed(origin, _WANTED, got="one with neither params nor result")
        yield from self._paired(pairs)

    def _paired(self, pairs: Iterable[Pair]) -> Iterator[Exchange]:
        for pair in pairs:
            self.joined += pair.question is not None and pair.answer is not None
            half = pair.answer or pair.question
            assert half is not None, "a pair has one half at least"
            yield from self.built(partial(self._exchange, pair), half.origin)

    def _exchange(self, pair: Pair) -> Exchange:
        asked = dict_of(pair.question.record if pair.question else None)
        told = dict_of(pair.answer.record if pair.answer else None)
        request, result = dict_of(asked.get("params")), dict_of(told.get("result"))
        kind = text(result.get("type")) or "no_result"
        failed = dict_of(result.get("error"))
        # An error wraps the wire's whole error body; older files had the inner object alone.
        failed = failed if "error" in failed else {"error": failed} if failed else {}
        returned = read_returned("anthropic.messages", failed or result.get("message"))
        person = person_of(request, options=self._options)
        when = self._batches.time_of(pair, answered_at=None, person=person)
        message_id = text(returned.body.get("id"))
        circumstances = Exchange(
            exchange_id=message_id or when.fallback_id,
            account=person.account,
            started_at=when.started_at,
            error=None if kind == "succeeded" else returned.error or kind,
            session=person.session,
            origin=when.origin,
            tags=when.tags,
        )
        return join(request, returned, wire="anthropic.messages", circumstances=circumstances)


READER = AnthropicBatch(_Conversion)
