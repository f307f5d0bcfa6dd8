"""What was known of some vendors' and models' terms on a day: hints, never legal advice.

The table rests in `assets/terms.toml`, each row with its date. A hint never permits and never
forbids: it tells whoever writes a `[permission]` what to read again.
"""

from __future__ import annotations

import fnmatch
import tomllib
from datetime import date
from functools import cache
from importlib.resources import files

import msgspec

from stillwatch.distill.permit.addresses import host_of


class TermsHint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row.

    Attributes:
        vendor: whose terms.
        models: patterns of model names that it is about, in lower case.
        hosts: hosts (and their subdomains) that the vendor runs.
        as_of: the day on which it was so.
        says: what the terms say, in our words.
        bases: bases of a permission that it is told to.
        obligations: what a permission should list, in the form of `[permission] obligations`.
        licence_spdx: how the licence is written, or "".
    """

    vendor: str
    as_of: date
    says: str
    models: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    bases: tuple[str, ...] = ("licence", "terms")
    obligations: tuple[str, ...] = ()
    licence_spdx: str = ""

    @property
    def is_vendor(self) -> bool:
        """Whether it is about an endpoint that the vendor runs."""
        return bool(self.hosts)

    @property
    def sentence(self) -> str:
        """The hint as reports print it."""
        return f"{self.vendor}, as of {self.as_of}: {self.says} (a hint, not legal advice)"


def terms_hints(model: str, endpoint: str = "") -> tuple[TermsHint, ...]:
    """Find what is known of a teacher's terms.

    Args:
        model: the model's name; "" looks at the endpoint only.
        endpoint: the base URL; "" looks at the model only.

    Returns:
        The rows that fit, in the table's order; a model's first row only (the most particular).

    Example:
        >>> [hint.licence_spdx for hint in terms_hints("deepseek-ai/DeepSeek-R1")]
        ['MIT']
    """
    host = host_of(endpoint)
    found = [row for row in _rows() if any(_is_of(host, owned) for owned in row.hosts)]
    name = model.lower()
    for row in _rows() if name else ():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in row.models):
            found.append(row)
            break
    return tuple(dict.fromkeys(found))


def _is_of(host: str, owned: str) -> bool:
    return host == owned or host.endswith(f".{owned}")


@cache
def _rows() -> tuple[TermsHint, ...]:
    asset = files("stillwatch.distill.permit").joinpath("assets/terms.toml")
    table = tomllib.loads(asset.read_text("utf-8"))
    return tuple(msgspec.convert(row, TermsHint) for row in table["terms"])
