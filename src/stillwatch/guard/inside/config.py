"""What is particular to the wall inside another gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from stillwatch.errors import reject

Whose = Literal["user", "key", "end_user"]
_WHERE: Final = "inside"


@dataclass(frozen=True)
class InsideConfig:
    """The table `[inside]`.

    Attributes:
        account: what an account is: the other gateway's `user` (else the key), its `key`, or the
            `end_user` that an application names (else as `user`); the last one is the client's own
            word, so only for applications of yours.
        answer_wait_s: seconds after which a question is recorded without its answer when none was
            told; 0 does not wait, for a gateway that tells no answers.
        settle_s: seconds of quiet after which an answer that came in parts is taken as whole.
        serve_admin: the library also serves `/healthz`, `/metrics` and the admin routes on `host`
            and `port`.
    """

    account: Whose = "user"
    answer_wait_s: float = 900.0
    settle_s: float = 2.0
    serve_admin: bool = False

    def __post_init__(self) -> None:
        if self.account not in get_args(Whose):
            reject(_WHERE, "account", f"one of {', '.join(get_args(Whose))}", got=self.account)
        for name in ("answer_wait_s", "settle_s"):
            if getattr(self, name) < 0:
                reject(_WHERE, name, "at least 0", got=getattr(self, name))
