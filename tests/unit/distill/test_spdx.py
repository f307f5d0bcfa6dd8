"""SPDX expressions."""

import pytest

from stillwatch.distill.permit.spdx import check_expression
from stillwatch.errors import InvalidInputError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mit", "MIT"),
        ("GPL-2.0+", "GPL-2.0+"),
        ("(MIT or apache-2.0) AND LicenseRef-a.b", "(MIT OR Apache-2.0) AND LicenseRef-a.b"),
        ("gpl-3.0-or-later with classpath-exception-2.0",
         "GPL-3.0-or-later WITH Classpath-exception-2.0"),
    ],
)  # fmt: skip
def test_expressions_are_written_as_the_list_does(given: str, expected: str) -> None:
    """Identifiers and operators are read in any case and written in the list's."""
    assert expected == check_expression(given, where="w", name="n")


@pytest.mark.parametrize("given", ["", "MIT OR", "(MIT", "MIT Apache-2.0", "MIT WITH MIT", ")"])
def test_what_is_no_expression_is_refused(given: str) -> None:
    """Half an expression is an error, not a licence."""
    with pytest.raises(InvalidInputError, match="w: n must be"):
        check_expression(given, where="w", name="n")


def test_a_slip_is_told_the_nearest() -> None:
    """An unknown identifier is answered with those nearest to it."""
    with pytest.raises(InvalidInputError) as caught:
        check_expression("Apache2.0", where="w", name="n")
    assert "Apache-2.0" in (caught.value.hint or "")
