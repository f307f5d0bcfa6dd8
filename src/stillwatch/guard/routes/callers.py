"""What a request tells of the software that asks and of the person behind it.

Tags are named as the readers of logs name them, so that a gateway's record and a vendor's log can
be laid side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from stillwatch.logs.api_bodies import person_of
from stillwatch.logs.reader import ReadOptions
from stillwatch.record.privacy import KeyedHash

_SDK: Final = {
    f"x-stainless-{name}".encode(): f"sdk_{name.replace('-', '_')}"
    for name in ("lang", "package-version", "os", "arch", "runtime", "runtime-version")
}
_NAMING: Final = frozenset({"safety_identifier", "user", "metadata"})
_LONGEST: Final = 64  # characters of a value; a client may send anything


class Callers:
    """Reads tags of requests.

    Args:
        hasher: hashes the names of people.
    """

    def __init__(self, hasher: KeyedHash) -> None:
        self._options = ReadOptions(hasher)
        self._sdk = lru_cache(1024)(_sdk_tags)

    def tags(
        self, headers: Mapping[bytes, bytes], parameters: Mapping[str, Any] | None
    ) -> Mapping[str, str]:
        """Tell the client library's own words about itself, and whom the question names.

        Args:
            headers: the request's, names in lower case.
            parameters: the question's, or None when it cannot be read.

        Returns:
            Tags `sdk_*` and `end_user` (a keyed hash), those that are known.
        """
        found: Mapping[str, str] = {}
        if b"x-stainless-lang" in headers:
            found = self._sdk(*(headers.get(name, b"")[:_LONGEST] for name in _SDK))
        if parameters is not None and not _NAMING.isdisjoint(parameters):
            end_user = person_of(parameters, options=self._options).end_user
            if end_user is not None:
                return {**found, "end_user": end_user}
        return found


def _sdk_tags(*values: bytes) -> Mapping[str, str]:
    told = zip(_SDK.values(), values, strict=True)
    return {tag: value.decode("latin-1") for tag, value in told if value}
