"""Self-contained HTML pages: one file, nothing fetched, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from stillwatch.report import numbers


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """Fill a template of this package.

    Values are escaped; only `Markup`, as `picture_markup` makes it, goes through as it is.

    Args:
        template: file name under `report/templates`.
        context: what the template names; a name that it lacks is an error, not a gap.

    Returns:
        The whole page.
    """
    return page_environment().get_template(template).render(**context)


def page_environment(*packages: str) -> jinja2.Environment:
    """Make what fills templates: strict, escaping, with the numbers' filters.

    Args:
        *packages: packages whose templates go before the ones here, which are always to be had.

    Returns:
        The environment; more filters may be added.
    """
    names = (*packages, "stillwatch.report")
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in names]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters.update(
        count=numbers.count,
        rough=numbers.rough,
        percent=numbers.percent,
        dollars=numbers.dollars,
        seconds=numbers.seconds,
        p=numbers.p_text,
    )
    return environment


def picture_markup(svg: str) -> Markup:
    """Mark a picture of this package as markup that needs no escaping.

    Args:
        svg: made by `report.svg`, which escapes every word that it is given.

    Returns:
        The same text, trusted.
    """
    return Markup(svg)  # noqa: S704 - every word in it went through svg.text or svg.element
