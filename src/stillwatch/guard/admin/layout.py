"""Fills the admin's templates."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jinja2

from stillwatch.report import numbers
from stillwatch.report.page import page_environment


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template; every value is escaped.

    Args:
        template: file name under `admin/templates`.
        values: what it names; a name that it lacks is an error.

    Returns:
        The page.
    """
    return _environment().get_template(template).render(**values)


@lru_cache(1)
def _environment() -> jinja2.Environment:
    # With the reports' sheet of styles and their base.
    environment = page_environment("stillwatch.guard.admin")
    environment.filters.update(ago=ago, when=when, told=told)
    return environment


def ago(at: float | None, now: float) -> str:
    """Write how long ago a moment was, or how soon it comes.

    Args:
        at: UTC epoch seconds, or None.
        now: UTC epoch seconds.

    Returns:
        The text.

    Example:
        >>> ago(100.0, 190.0), ago(7300.0, 100.0)
        ('90 s ago', 'in 2.0 h')
    """
    if at is None:
        return ""
    span = abs(now - at)
    if span < 1.0:
        return "now"
    words = f"{span / 86_400:.1f} days" if span >= 172_800 else numbers.seconds(round(span))
    return f"{words} ago" if at <= now else f"in {words}"


def when(at: float | None) -> str:
    """Write a moment.

    Args:
        at: UTC epoch seconds, or None.

    Returns:
        The text, to the minute.

    Example:
        >>> when(0.0)
        '1970-01-01 00:00'
    """
    if at is None or not 0 <= at < 2.5e11:
        return ""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def told(line: Mapping[str, Any]) -> str:
    """Write what a line of the audit log is about.

    Args:
        line: as `views.audit` gives it.

    Returns:
        One short line.
    """
    detail = line["detail"]
    parts = [
        f"{name.removesuffix('_id').replace('_', ' ')} {_short(value)}"
        for name, value in detail.items()
        if name not in {"by", "via", "why", "facts"} and value not in (None, "", [], {})
    ]
    reason = detail.get("why") or ""
    return "; ".join([*([reason] if reason else []), *parts])[:300]


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"({len(value):,})"
    if isinstance(value, list):
        return ", ".join(_short(part) for part in value[:4]) + (", ..." if len(value) > 4 else "")
    if isinstance(value, dict):
        return f"({', '.join(list(value)[:4])})"
    if isinstance(value, float):
        # Nothing else that is logged comes near the seconds since 1970.
        return f"{when(value)} UTC" if value > 1e8 else f"{value:g}"
    return str(value)[:16] if len(str(value)) == 64 else str(value)
