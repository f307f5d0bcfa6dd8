"""The challenge: who is asked to show who they are, and the token that says they did.

A challenged question is refused with the address of a page of yours. What happens there is yours
too; at its end that page signs a token for the account, or tells the gateway's admin. The token
comes back in a header of the next question and works once: it is bound to the account, ends soon,
and carries a number that is never taken twice. What it buys, a clearance, ends as well.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from stillwatch.errors import InvalidInputError, NotPermittedError, StillwatchError, reject
from stillwatch.guard.recording.audit import AuditEvent
from stillwatch.guard.wall.orders import Clearance
from stillwatch.wire.seal import Purpose, malformed, seal, unseal

if TYPE_CHECKING:
    from stillwatch.guard.state import GuardState

VERIFIED_HEADER: Final = b"x-stillwatch-verified"
CHALLENGED: Final = "verification_required"
_USUAL: Final = "This account has to be verified before it may use this model."
_LONGEST: Final = 2048  # characters of a token
_PURPOSE = Purpose(
    "x-stillwatch-verified",
    b"stillwatch verification token v1",
    "token",
    "v1.DATA.CODE",
    "give the gateway and your verification page the same challenge secret",
)

TokenResult = Literal[
    "accepted", "again", "malformed", "forged", "expired", "foreign", "replayed", "failed"
]


@dataclass(frozen=True)
class ChallengeConfig:
    """Where challenged people are sent, and how long an answer counts.

    Attributes:
        url: of your page; `{request_id}` in it becomes the id of the refused question, by which
            the record knows the account.
        clearance_s: seconds that a clearance lasts.
    """

    url: str = ""
    clearance_s: float = 30 * 86_400.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if self.url and (parts.scheme not in {"http", "https"} or not parts.hostname):
            reject("guard.challenge", "url", "an http(s) address", got=self.url)
        if self.clearance_s <= 0:
            reject("guard.challenge", "clearance_s", "above 0", got=self.clearance_s)


class Token(NamedTuple):
    """What a token says.

    Attributes:
        account: whom it was given to.
        expires_at: by when it must be presented (UTC epoch seconds).
        nonce: its number.
    """

    account: str
    expires_at: float
    nonce: str


class _Data(msgspec.Struct, forbid_unknown_fields=True):
    account: str
    expires_at: float
    nonce: str


_DECODER = msgspec.json.Decoder(_Data)


class Nonces(Protocol):
    """Remembers which tokens were used, for all gateways that share accounts."""

    async def use(self, nonce: str, until: float) -> bool:
        """Use a number.

        Args:
            nonce: the number.
            until: how long it must be remembered (UTC epoch seconds).

        Returns:
            True the first time, False ever after.

        Raises:
            StillwatchError: it cannot be known.
        """
        ...


def issue_token(secret: bytes, account: str, *, now: float, ttl_s: float = 900.0) -> str:
    """Write a token for an account that has shown who it is.

    Args:
        secret: the challenge secret.
        account: as the key table names it.
        now: UTC epoch seconds.
        ttl_s: seconds within which it must be presented.

    Returns:
        The token, for the header `x-stillwatch-verified`.

    Raises:
        InvalidInputError: the secret is too short or the time to live not above 0.
    """
    if not ttl_s > 0:
        reject("issue_token", "ttl_s", "above 0", got=ttl_s)
    data = _Data(account, now + ttl_s, secrets.token_hex(16))
    return seal(secret, _PURPOSE, msgspec.json.encode(data))


def read_token(secret: bytes, text: str) -> Token:
    """Read a token whose signature is right; account, time and number are the caller's to check.

    Args:
        secret: the challenge secret.
        text: as the client sent it.

    Returns:
        What it says.

    Raises:
        InvalidInputError: it does not have a token's form.
        NotPermittedError: its signature is wrong.
    """
    if len(text) > _LONGEST:
        malformed(_PURPOSE, text)
    data = unseal(secret, _PURPOSE, text)
    try:
        found = _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError):
        malformed(_PURPOSE, text)
    return Token(found.account, found.expires_at, found.nonce)


def challenge_message(
    config: ChallengeConfig, request_id: str, *, message: str | None = None
) -> str:
    """Say to a client that it is asked to be verified, and where.

    Args:
        config: where.
        request_id: the refused question's.
        message: a policy rule's own sentence, or None for the usual one.

    Returns:
        One or two sentences; the address is always among them.
    """
    url = config.url.replace("{request_id}", quote(request_id, safe=""))
    return f"{message or _USUAL} Verify it at {url}"


class TableNonces:
    """Remembers used tokens in the verdict table, which outlives the process.

    Args:
        state: the gateway's.
    """

    def __init__(self, state: GuardState) -> None:
        self._state = state

    async def use(self, nonce: str, until: float) -> bool:
        """Use a number, as `Nonces` says.

        Args:
            nonce: the number.
            until: how long it must be remembered (UTC epoch seconds).

        Returns:
            True the first time, False ever after.
        """
        now = self._state.clock.now()
        return await self._state.in_table(
            lambda table: table.use_nonce(nonce, until=until, now=now)
        )


class Challenges:
    """Takes tokens.

    Args:
        state: the gateway's.
    """

    def __init__(self, state: GuardState) -> None:
        self._state = state
        self._turn = asyncio.Lock()

    async def present(self, account: str, header: bytes) -> TokenResult | None:
        """Take the token that came with a question; a bad one changes nothing and is counted.

        Args:
            account: who asks.
            header: the token as it came.

        Returns:
            What came of it; None when the gateway takes no tokens.
        """
        secret = self._state.config.secrets.challenge_secret
        if secret is None:
            return None
        # One at a time: a client that sends its token with many questions at once uses it once.
        async with self._turn:
            result = await self._present(secret, account, header)
        if result != "again":
            self._state.metrics.count("challenge_tokens", result=result)
        return result

    async def _present(self, secret: bytes, account: str, header: bytes) -> TokenResult:
        try:
            token = read_token(secret, header.decode("latin-1"))
        except InvalidInputError:
            return "malformed"
        except NotPermittedError:
            return "forged"
        if token.account != account:
            return "foreign"
        try:
            return await self._use(token, self._state.clock.now())
        except StillwatchError:
            # Whether it was used cannot be known: the challenge stands.
            return "failed"

    async def _use(self, token: Token, now: float) -> TokenResult:
        state, account = self._state, token.account
        held = state.board.clearances.get(account)
        if held is not None and held.nonce == token.nonce and now < held.until:
            # A client that keeps sending the token that it was let in by does no harm.
            return "again"
        if now >= token.expires_at:
            return "expired"
        if not await state.nonces.use(token.nonce, token.expires_at):
            return "replayed"
        until = now + state.config.challenge.clearance_s
        await state.verify(Clearance(account, until, now, "token", token.nonce))
        detail = {"account": account, "until": until, "by": "token"}
        events = [AuditEvent("verified", now, detail)]
        verdict = state.board.verdict(account, now)
        if verdict is not None:
            name = verdict.campaign.campaign_id
            n_verified, n_accounts = state.board.n_verified(name, now)
            if n_verified == n_accounts:
                # Whoever owns them all can show that: a person should look at such a campaign.
                detail = {"campaign_id": name, "n_accounts": n_accounts}
                events.append(AuditEvent("all-verified", now, detail))
        await state.books.note(events)
        return "accepted"
