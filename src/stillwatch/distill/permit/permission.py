"""On what basis a teacher may be distilled: the `[permission]` table, checked and stamped.

What is written there is the user's claim; nothing here proves it. But a claim that is absent, has
run out, or names another teacher or endpoint stops a run before the first question, and the claim
goes into every artefact, so that whoever holds one can ask for the evidence.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Literal, Protocol, get_args

import msgspec

from stillwatch.distill.permit.addresses import (
    is_folder,
    is_loopback,
    is_near,
    is_within,
    shown,
    split_url,
)
from stillwatch.distill.permit.permission_words import permission_block
from stillwatch.distill.permit.spdx import check_expression, is_reference
from stillwatch.distill.permit.terms import TermsHint, terms_hints
from stillwatch.errors import NotPermittedError, reject
from stillwatch.record.exchange import canonical_json

Basis = Literal["own-model", "written-grant", "licence", "terms"]
Release = Literal["private", "internal", "public"]
#: What a grant may cover: training a student, giving the student away, giving the answers away.
SCOPES = ("train", "publish", "share-answers")
#: Obligations that are understood and carried out on the student's card, as `kind:value`.
OBLIGATIONS = ("name-prefix", "attribution", "notice", "licence")
_STALE_DAYS = 180  # vendors change their terms a few times a year
_HEX_DIGITS = frozenset("0123456789abcdef")


class Teacher(Protocol):
    """What a permission is checked against: a model at an endpoint, or in a folder."""

    @property
    def model(self) -> str:
        """The model's name as it is asked for."""
        ...

    @property
    def endpoint(self) -> str:
        """The base URL; "" or `folder:` and a hash for a local folder."""
        ...


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A permission that somebody gave in writing.

    Attributes:
        by: who gave it.
        ref: where it can be found: a contract number, a letter, a ticket.
        scope: what it covers, of `SCOPES`, separated by commas.
        expires: the last day on which it holds, or None.
    """

    by: str
    ref: str
    scope: str = "train"
    expires: date | None = None

    @property
    def scopes(self) -> frozenset[str]:
        """The scope as a set."""
        return frozenset(part.strip() for part in self.scope.split(",") if part.strip())


class Permission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[permission]` table of a run.

    Attributes:
        basis: `own-model`, `written-grant`, `licence` or `terms`.
        teacher: the model that may be distilled, as it is asked for; `*` stands for any ending, and
            what follows an `@` is a revision that is noted.
        endpoint: base URL at which it may be asked; "" allows loopback and local folders only.
        endpoint_owner: who runs the endpoint; needed when it is not loopback.
        licence_spdx: SPDX expression of the model's licence, `LicenseRef-...` for others.
        terms_url: the terms that were read.
        terms_sha256: SHA-256 of the page as it was read.
        retrieved: the day it was read.
        grant: the written grant.
        obligations: what the basis asks of the student, as `kind:value` with kinds `OBLIGATIONS`.
        student_release: who may get the student: `private`, `internal` or `public`.
        expires: the last day on which the permission holds, or None.
    """

    basis: Basis
    teacher: str
    endpoint: str = ""
    endpoint_owner: str = ""
    licence_spdx: str = ""
    terms_url: str = ""
    terms_sha256: str = ""
    retrieved: date | None = None
    grant: Grant | None = None
    obligations: tuple[str, ...] = ()
    student_release: Release = "private"
    expires: date | None = None

    def __post_init__(self) -> None:
        """Refuse a table that does not say what its basis needs."""
        _check_text(self.teacher, "teacher", "the model's name as it is asked for")
        if "*" in self.teacher[:-1]:
            reject(_WHERE, "teacher", "a name with at most one *, at its end", got=self.teacher)
        _check_url(self.endpoint, "endpoint", schemes=("http", "https"))
        if self.endpoint and not is_loopback(self.endpoint):
            _check_text(self.endpoint_owner, "endpoint_owner", "named for a remote endpoint")
        if self.licence_spdx:
            check_expression(self.licence_spdx, where=_WHERE, name="licence_spdx")
        _check_terms(self)
        for obligation in self.obligations:
            _check_obligation(obligation)
        _NEEDS[self.basis](self)
        if self.grant is not None:
            _check_grant(self.grant, self.student_release)

    @property
    def last_day(self) -> date | None:
        """The last day on which both the permission and its grant hold, or None for no end."""
        days = [self.expires, self.grant.expires if self.grant else None]
        return min((day for day in days if day is not None), default=None)


class PermissionStamp(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A permission that was checked against a teacher; it travels with every artefact.

    Attributes:
        permission_id: SHA-256 over the permission and the teacher, 24 hex digits; the same for
            the same claim, on any machine and day.
        basis: as in the permission.
        model: the teacher's name as it is asked for.
        endpoint: its base URL without secrets; "" for a local folder.
        permission: the whole table.
        expires_at: when it ends (UTC epoch seconds), or None.
        hints: what is known of such teachers' terms, dated; never legal advice.
    """

    permission_id: str
    basis: Basis
    model: str
    endpoint: str
    permission: Permission
    expires_at: float | None = None
    hints: tuple[str, ...] = ()

    def require(self, now: float, *, scope: str = "train") -> None:
        """Stop unless the permission still holds and covers something; O(1).

        Args:
            now: the time (UTC epoch seconds).
            scope: one of `SCOPES`.

        Raises:
            NotPermittedError: it has run out, or does not cover it.
        """
        if self.expires_at is not None and now >= self.expires_at:
            _refuse_expired(self.permission, self.expires_at)
        grant = self.permission.grant
        if grant is not None and scope not in grant.scopes:
            message = f"the grant by {grant.by} covers {grant.scope}, not {scope}"
            hint = f"ask for it, and write scope = {', '.join([*sorted(grant.scopes), scope])!r}"
            raise NotPermittedError(message, hint=hint)


def stamp(permission: Permission | None, teacher: Teacher, now: float) -> PermissionStamp:
    """Check a permission against the teacher that a run is about to ask.

    Args:
        permission: the run's table, or None when it has none.
        teacher: the model and endpoint, as `teacher.identify` gives them.
        now: the time (UTC epoch seconds).

    Returns:
        The stamp that asking, training and every artefact carry.

    Raises:
        NotPermittedError: there is none, it has run out or not begun, or it is for another model
            or endpoint. The hint is the TOML block to write.
    """
    if permission is None:
        message = f"no [permission] to distil {teacher.model!r}{_at(teacher.endpoint)}"
        raise NotPermittedError(message, hint=permission_block(teacher.model, teacher.endpoint))
    _check_model(permission, teacher)
    _check_place(permission, teacher)
    last_day = permission.last_day
    expires_at = None if last_day is None else _end_of(last_day)
    if expires_at is not None and now >= expires_at:
        _refuse_expired(permission, expires_at)
    today = datetime.fromtimestamp(now, UTC).date()
    # A day's slack: where the sun rises earlier, tomorrow was already read.
    if permission.retrieved is not None and (permission.retrieved - today).days > 1:
        message = f"[permission]: retrieved lies in the future: {permission.retrieved}"
        raise NotPermittedError(message, hint="write the day on which the terms were read")
    endpoint = shown(teacher.endpoint)
    return PermissionStamp(
        permission_id=permission_id(permission, teacher),
        basis=permission.basis,
        model=teacher.model,
        endpoint=endpoint,
        permission=permission,
        expires_at=expires_at,
        hints=_hints(permission, teacher, today),
    )


def permission_id(permission: Permission, teacher: Teacher) -> str:
    """Hash a permission with the teacher that it was given for.

    Args:
        permission: the table.
        teacher: the model and endpoint.

    Returns:
        24 hex digits.
    """
    claim = {
        "permission": msgspec.to_builtins(permission),
        "model": teacher.model,
        # A server of one's own comes up at another port every day; the claim is the same.
        "endpoint": "loopback" if is_loopback(teacher.endpoint) else shown(teacher.endpoint),
    }
    return hashlib.sha256(canonical_json(claim).encode()).hexdigest()[:24]


_WHERE = "[permission]"


def _check_model(permission: Permission, teacher: Teacher) -> None:
    allowed = {permission.teacher, permission.teacher.partition("@")[0]}
    if any(fnmatch.fnmatchcase(teacher.model, _literal(name)) for name in allowed):
        return
    message = f"the [permission] is for {permission.teacher!r}, not for {teacher.model!r}"
    hint = "a permission for this model, or the model that was permitted in [teacher]"
    raise NotPermittedError(message, hint=hint)


def _literal(name: str) -> str:
    """A pattern in which only a `*` at the end is special."""
    stem = name.removesuffix("*")
    escaped = stem.replace("[", "[[]").replace("?", "[?]")
    return escaped + ("*" if name.endswith("*") else "")


def _check_place(permission: Permission, teacher: Teacher) -> None:
    if permission.endpoint:
        if is_within(teacher.endpoint, permission.endpoint):
            return
        message = (
            f"the [permission] is for {shown(permission.endpoint)}, not{_at(teacher.endpoint)}"
        )
        hint = "permissions do not travel: write one for this endpoint"
        raise NotPermittedError(message, hint=hint)
    if is_near(teacher.endpoint):
        return
    message = (
        f"the [permission] names no endpoint and covers loopback only, not{_at(teacher.endpoint)}"
    )
    hint = permission_block(teacher.model, teacher.endpoint, basis=permission.basis)
    raise NotPermittedError(message, hint=hint)


def _at(endpoint: str) -> str:
    return " in a local folder" if is_folder(endpoint) else f" at {shown(endpoint)}"


def _hints(permission: Permission, teacher: Teacher, today: date) -> tuple[str, ...]:
    found = [
        hint.sentence
        for hint in terms_hints(teacher.model, teacher.endpoint)
        if permission.basis in hint.bases and not _carries(permission, hint)
    ]
    if permission.retrieved is not None and (today - permission.retrieved).days > _STALE_DAYS:
        age = (today - permission.retrieved).days
        found.append(
            f"the terms were read {age} days ago ({permission.retrieved}); read them again"
        )
    return tuple(found)


def _carries(permission: Permission, hint: TermsHint) -> bool:
    """Whether a hint only asks for obligations that the permission already lists."""
    return bool(hint.obligations) and set(hint.obligations) <= set(permission.obligations)


def _end_of(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + 86_400


def _refuse_expired(permission: Permission, expires_at: float) -> None:
    grant = permission.grant
    whose = f"the grant by {grant.by}" if grant and grant.expires else "the [permission]"
    day = datetime.fromtimestamp(expires_at - 1, UTC).date()
    message = f"{whose} for {permission.teacher!r} ran out on {day}"
    raise NotPermittedError(message, hint="renew it, then write the new expires and ref")


def _check_text(value: str, name: str, rule: str) -> None:
    if not value.strip() or value != value.strip() or not value.isprintable():
        reject(_WHERE, name, rule, got=value)


def _check_url(value: str, name: str, *, schemes: tuple[str, ...]) -> None:
    if not value:
        return
    parts = split_url(value)
    if parts.scheme not in schemes or not parts.hostname or parts.port == 0:
        reject(_WHERE, name, f"a URL with {' or '.join(schemes)}", got=shown(value))
    if parts.username is not None or parts.password is not None:
        reject(_WHERE, name, "free of user names and passwords", got="a URL with them")


def _check_terms(permission: Permission) -> None:
    _check_url(permission.terms_url, "terms_url", schemes=("http", "https", "file"))
    digest = permission.terms_sha256
    if digest and (len(digest) != 64 or not _HEX_DIGITS.issuperset(digest)):
        hint = "save the page and run sha256sum on it"
        reject(_WHERE, "terms_sha256", "64 hex digits in lower case", got=digest, hint=hint)


def _check_obligation(obligation: str) -> None:
    kind, colon, value = obligation.partition(":")
    if kind not in OBLIGATIONS or not colon or not value.strip():
        rule = f"KIND:VALUE with a kind of {', '.join(OBLIGATIONS)}"
        reject(_WHERE, "obligations", rule, got=obligation)
    if kind == "licence":
        check_expression(value.strip(), where=_WHERE, name="obligations")


def _check_grant(grant: Grant, release: Release) -> None:
    for name in ("by", "ref"):
        _check_text(getattr(grant, name), f"grant.{name}", "a non-empty line")
    unknown = sorted(grant.scopes - set(SCOPES))
    if unknown or not grant.scopes:
        reject(_WHERE, "grant.scope", f"some of {', '.join(SCOPES)}", got=grant.scope)
    if "train" not in grant.scopes:
        reject(_WHERE, "grant.scope", "one that covers train", got=grant.scope)
    if release == "public" and "publish" not in grant.scopes:
        hint = "ask for it, or release the student to private or internal"
        rule = "one that covers publish for a public student"
        reject(_WHERE, "grant.scope", rule, got=grant.scope, hint=hint)


def _need_nothing(permission: Permission) -> None:
    if not permission.endpoint:
        return
    for hint in terms_hints("", permission.endpoint):
        if hint.is_vendor:
            rule = f"written-grant, licence or terms at the endpoint of {hint.vendor}"
            reason = "who runs the endpoint sets the terms, for tuned models too"
            reject(_WHERE, "basis", rule, got=permission.basis, hint=reason)


def _need_grant(permission: Permission) -> None:
    if permission.grant is None:
        hint = 'grant = {by = "WHO", ref = "WHERE IT RESTS", scope = "train", expires = 2027-01-31}'
        reject(_WHERE, "grant", "given for basis written-grant", got=None, hint=hint)


def _need_licence(permission: Permission) -> None:
    if not permission.licence_spdx:
        hint = 'licence_spdx = "MIT", or "LicenseRef-NAME" with terms_url, terms_sha256, retrieved'
        reject(_WHERE, "licence_spdx", "given for basis licence", got="", hint=hint)
    if is_reference(permission.licence_spdx):
        _need_terms(permission)


def _need_terms(permission: Permission) -> None:
    for name in ("terms_url", "terms_sha256", "retrieved"):
        if not getattr(permission, name):
            hint = "the page that was read, its SHA-256 and the day: terms change"
            rule = f"given for basis {permission.basis}"
            if permission.basis == "licence":
                rule += " with a licence outside the SPDX list"
            reject(_WHERE, name, rule, got=getattr(permission, name), hint=hint)


_NEEDS: dict[str, Callable[[Permission], None]] = {
    "own-model": _need_nothing,
    "written-grant": _need_grant,
    "licence": _need_licence,
    "terms": _need_terms,
}
assert set(_NEEDS) == set(get_args(Basis))
