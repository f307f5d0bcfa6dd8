"""What a fake endpoint answers and how it misbehaves."""

from __future__ import annotations

from typing import Literal

import msgspec

from stillwatch.errors import reject


class FakeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a fake endpoint behaves; the defaults are an endpoint without a fault.

    Shares are 0..1. Faults of the line (errors to wrong types) are drawn anew for each attempt at a
    question; what the model does (truncated, refused) is drawn once a question, because a question
    that is too long for its limit stays so. Both draws come from the seed and the question alone,
    so a run repeats whatever the order in which questions arrive.

    Attributes:
        seed: of every draw.
        model: the name it gives itself when a question names none.
        fingerprint: `system_fingerprint` of its replies.
        answers: answers by the text of the last user turn; others get `KEY filler`, where KEY is
            the question's key, so that an answer shows which conversation it belongs to.
        answer_bytes: length that filler brings such an answer to (bytes).
        truncated_share: questions whose answers stop for length, at half their text.
        refused_share: questions that are refused.
        refusal: how: in `words` only, in the wire's own `field`, or by its content `filter`.
        reasoning_share: questions whose answers carry reasoning text.
        delay_s: from a question's last byte to its answer's first.
        stream_pause_s: between the pieces of a streamed answer.
        rate_per_s: questions a second that the bucket lets through, others get 429; 0: no bucket.
        burst: what the bucket holds; 0 stands for one second's worth, at least 1.
        retry_after: how a 429 says how long to wait: `seconds` (whole, rounded up), `ms`, `date`,
            or `none`.
        most_at_once: questions under way beyond which 429 is given, 0 for no limit.
        error_share: attempts that get 500.
        overloaded_share: attempts that get 503 (529 on the Messages wire).
        dropped_share: attempts whose connection is closed without a byte.
        cut_share: attempts whose answer breaks off at half its bytes.
        stalled_share: attempts that wait `stall_s` before their answer.
        stall_s: how long these wait.
        malformed_share: attempts answered 200 with half a JSON body.
        wrong_type_share: attempts answered 200 with a page of HTML.
        api_key: the key that questions must bring, or None.
        batch_s: from a batch's submission to its end.
        batch_errored_share: rows of a batch that fail.
        batch_expired_share: rows of a batch that expire.
        batches_refused: how many batches, the first ones, fail at once for too many queued tokens.
        batches_unanswered: how many batches, the first ones, are taken while the connection breaks
            before the reply, so that their client never learns their ids.
    """

    seed: int = 0
    model: str = "fake"
    fingerprint: str = "fp_fake"
    answers: dict[str, str] = {}
    answer_bytes: int = 0
    truncated_share: float = 0.0
    refused_share: float = 0.0
    refusal: Literal["words", "field", "filter"] = "words"
    reasoning_share: float = 0.0
    delay_s: float = 0.0
    stream_pause_s: float = 0.0
    rate_per_s: float = 0.0
    burst: float = 0.0
    retry_after: Literal["seconds", "ms", "date", "none"] = "seconds"
    most_at_once: int = 0
    error_share: float = 0.0
    overloaded_share: float = 0.0
    dropped_share: float = 0.0
    cut_share: float = 0.0
    stalled_share: float = 0.0
    stall_s: float = 30.0
    malformed_share: float = 0.0
    wrong_type_share: float = 0.0
    api_key: str | None = None
    batch_s: float = 0.2
    batch_errored_share: float = 0.0
    batch_expired_share: float = 0.0
    batches_refused: int = 0
    batches_unanswered: int = 0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name.endswith("_share") and not 0.0 <= value <= 1.0:
                reject("FakeConfig", name, "within 0..1", got=value)
            if isinstance(value, (int, float)) and value < 0 and name != "seed":
                reject("FakeConfig", name, "0 or more", got=value)
        if sum(share for _, share in self.line_faults()) > 1.0:
            reject("FakeConfig", "the shares of line faults", "at most 1 together", got="more")

    def line_faults(self) -> list[tuple[str, float]]:
        """List the faults that an attempt may meet, with their shares.

        Returns:
            Name and share, in a fixed order.
        """
        return [
            ("error", self.error_share),
            ("overloaded", self.overloaded_share),
            ("dropped", self.dropped_share),
            ("cut", self.cut_share),
            ("stalled", self.stalled_share),
            ("malformed", self.malformed_share),
            ("wrong_type", self.wrong_type_share),
        ]
