"""A wire for questions asked on one wire whose answers are told, whole, in another's words."""

from __future__ import annotations

from dataclasses import dataclass

from stillwatch.guard.routes.wires import Parsed, Read, Wire
from stillwatch.record.exchange import Exchange
from stillwatch.wire.question import Question, Reply


@dataclass(frozen=True, slots=True)
class Told:
    """Reads whole answers of one wire to questions of another.

    Another gateway tells an answer once it has all of it, also where the client got a stream, and
    may have put it into the words of the wire that it thinks in.

    Attributes:
        asked_on: the wire of the question.
        told_on: the wire whose words the answer is told in.
    """

    asked_on: Wire
    told_on: Wire

    @property
    def name(self) -> str:
        """Name of the wire of the question."""
        return self.asked_on.name

    @property
    def id_header(self) -> bytes:
        """Header line that names a request."""
        return self.asked_on.id_header

    @property
    def key_header(self) -> str:
        """Header line that a key travels in."""
        return self.asked_on.key_header

    def parse(self, body: bytes) -> Parsed:
        """Read a question.

        Args:
            body: JSON of the question's wire.

        Returns:
            The question.
        """
        return self.asked_on.parse(body)

    def read(self, body: bytes, *, streamed: bool) -> Read:
        """Read an answer.

        Args:
            body: JSON of the answer's wire, whole.
            streamed: not looked at: what was streamed is told whole.

        Returns:
            What came.
        """
        if not body:
            return Read(Reply(answers=()))
        return self.told_on.read(body, streamed=False)

    def join(self, question: Question, reply: Reply, circumstances: Exchange) -> Exchange:
        """Join question and answer; see `Wire.join`.

        Args:
            question: as parsed.
            reply: as read.
            circumstances: everything else.

        Returns:
            The exchange to record.
        """
        return self.asked_on.join(question, reply, circumstances)

    def refusal(
        self, status: int, message: str, *, code: str, request_id: str | None = None
    ) -> bytes:
        """Write an error in the shape of the question's wire; see `Wire.refusal`.

        Args:
            status: HTTP status.
            message: one sentence.
            code: short code.
            request_id: the request's id.

        Returns:
            JSON bytes.
        """
        return self.asked_on.refusal(status, message, code=code, request_id=request_id)
