"""The TOML block that a run lacks, filled in as far as its teacher is known."""

from __future__ import annotations

import msgspec

from stillwatch.distill.permit.addresses import is_near, shown
from stillwatch.distill.permit.terms import TermsHint, terms_hints

_GRANT = (
    'grant = {by = "WHO GAVE IT", ref = "WHERE IT RESTS", scope = "train", expires = 2027-12-31}'
)
_TERMS = 'terms_url = "URL"\nterms_sha256 = "SHA-256 OF THE PAGE"\nretrieved = 2026-01-31'
_LINES = {
    "own-model": "",
    "written-grant": _GRANT,
    "licence": 'licence_spdx = "SPDX ID"',
    "terms": _TERMS,
}


def permission_block(model: str, endpoint: str, *, basis: str | None = None) -> str:
    """Write the `[permission]` table that a run must add.

    Args:
        model: the teacher's name.
        endpoint: its base URL; "" for a local folder.
        basis: the basis that was chosen, or None to offer what fits.

    Returns:
        TOML, with the words to replace in capitals.
    """
    hints = terms_hints(model, endpoint)
    spdx = next((hint.licence_spdx for hint in hints if hint.licence_spdx), "")
    near = is_near(endpoint)
    vendor = next((hint.vendor for hint in hints if hint.is_vendor), "")
    if basis is None:
        basis = "licence" if spdx else "own-model" if near else "written-grant"
    # Who runs the endpoint sets the terms: there a model is nobody's own.
    fitting = [name for name in _LINES if not (vendor and name == "own-model")]
    others = " | ".join(name for name in fitting if name != basis)
    lines = [
        "write in the run's file, if it is true (it is recorded, not proved):",
        "[permission]",
        f'basis = "{basis}"  # or {others}',
        f"teacher = {_quoted(model)}",
    ]
    if not near:
        owner = vendor or "WHO RUNS IT"
        lines += [f"endpoint = {_quoted(shown(endpoint))}", f'endpoint_owner = "{owner}"']
    lines += _basis_lines(basis, spdx, hints)
    lines += [f"# {hint.sentence}" for hint in hints]
    return "\n".join(lines)


def _basis_lines(basis: str, spdx: str, hints: tuple[TermsHint, ...]) -> list[str]:
    if basis != "licence" or not spdx:
        return [_LINES[basis]] if _LINES[basis] else []
    lines = [f'licence_spdx = "{spdx}"']
    if spdx.startswith("LicenseRef-"):
        lines.append(_TERMS)
    asked = [obligation for hint in hints for obligation in hint.obligations]
    if asked:
        lines.append(f"obligations = [{', '.join(_quoted(one) for one in asked)}]")
    return lines


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return msgspec.json.encode(text).decode()
