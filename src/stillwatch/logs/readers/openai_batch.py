"""OpenAI's Batch files: the input file's questions and the output and error files' answers.

A batch is the cheap way to ask many questions at once. Its input has a line `{custom_id, method,
url, body}` a question; its output and error files have a line `{id, custom_id, response, error}` an
answer, in any order. Both are read together and joined by `custom_id`. The batch object itself
(`object: batch`) may be among the records, before the files: it gives times.

Account: `safety_identifier`, else `user` of the question's body (the application's end user), else
none: the files do not say whose key sent them. The tag `batch` names the batch, from the file's
name or the batch object; it does not stand in for the account, because one customer's hundred
batches would then look like a web of accounts.

Time: an answer's `created`; without one (a failed or expired question) the batch's own time, else
the last one known in the log, else none; the tag `time` says which: answer, batch,
neighbour, unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from stillwatch.logs.api_bodies import Returned, join, openai_wire, person_of, read_returned
from stillwatch.logs.batches import Batches, in_requests
from stillwatch.logs.fields import epoch, first_text, malformed, record_of, text, tokens
from stillwatch.logs.halves import Half, Halves, Pair
from stillwatch.logs.reader import JsonReader, Origin, ReadOptions
from stillwatch.logs.tally import Tally
from stillwatch.record.exchange import Exchange
from stillwatch.wire.chat_stream import dict_of, error_code

_WANTED = "a line of an OpenAI batch's input or output, with custom_id"


class OpenAIBatch(JsonReader):
    """The reader of OpenAI batches.

    Attributes:
        name: as `--format` takes it.
        title: as people call it.
        shape: JSON, lines or array.
    """

    name = "openai_batch"
    title = "OpenAI Batch input and output files"
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
        if record.get("object") == "batch" and "input_file_id" in record:
            return "is a batch object with input_file_id"
        grounds = (
            (
                isinstance(record.get("body"), Mapping) and "url" in record,
                "has custom_id, url and body as a batch's input has",
            ),
            (
                "status_code" in dict_of(record.get("response")),
                "has custom_id and response.status_code as a batch's output has",
            ),
            (
                "response" in record and "code" in dict_of(record.get("error")),
                "has custom_id, response and error.code as a batch's error file has",
            ),
        )
        return next((why for holds, why in grounds if holds and "custom_id" in record), None)


class _Conversion(Tally):
    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self._options = options
        self._halves = Halves()
        self._batches = Batches(options)

    def convert(self, record: Any, origin: Origin) -> Iterable[Exchange]:
        found = record_of(record, origin=origin, wanted=_WANTED)
        if found.get("object") == "batch":
            self._batches.note(
                found, names=("id", "input_file_id", "output_file_id", "error_file_id")
            )
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
        if isinstance(found.get("body"), Mapping):
            pairs = self._halves.add(key, Half(found, origin), side="question")
        elif "response" in found or "error" in found:
            pairs = self._halves.add(key, Half(found, origin), side="answer")
        else:
            malformed(origin, _WANTED, got="one with neither body nor response")
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
        request, endpoint = dict_of(asked.get("body")), text(asked.get("url")) or ""
        response = dict_of(told.get("response"))
        body = response.get("body")
        wire = openai_wire(request, body, endpoint)
        returned = read_returned(wire, body)
        person = person_of(request, options=self._options)
        when = self._batches.time_of(
            pair, answered_at=_created(returned, self._options), person=person
        )
        status = tokens(response.get("status_code"))
        error = None if pair.answer else "no_result"
        if told.get("error") is not None:
            error = error_code(told["error"])
        circumstances = Exchange(
            exchange_id=first_text(told.get("id"), when.fallback_id) or "",
            account=person.account,
            started_at=when.started_at,
            ended_at=epoch(returned.body.get("completed_at"), options=self._options),
            error=error,
            session=person.session,
            origin=when.origin,
            tags={**when.tags, **({} if wire != "other" else {"endpoint": endpoint})},
        )
        return join(request, returned, wire=wire, circumstances=circumstances, status=status)


def _created(returned: Returned, options: ReadOptions) -> float | None:
    body = returned.body
    return epoch(body.get("created", body.get("created_at")), options=options)


READER = OpenAIBatch(_Conversion)
