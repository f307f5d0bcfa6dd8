"""Permission: what is asked of a claim, and what a claim that does not fit stops."""

import tomllib
from datetime import UTC, date, datetime

import msgspec
import pytest

from stillwatch.distill.asking.teacher import TeacherTable, identify
from stillwatch.distill.permit.permission import Permission, stamp
from stillwatch.errors import InvalidInputError, NotPermittedError

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
HASH = "ab" * 32
NEAR = identify(TeacherTable(endpoint="http://127.0.0.1:8000/v1", model="house-skills"))
FAR = identify(TeacherTable(endpoint="https://api.example.com/v1", model="org/big"))
GRANT = {"by": "Example Ltd", "ref": "contract 7", "scope": "train"}


def _of(**table: object) -> Permission:
    return msgspec.convert(table, Permission)


def _far(**table: object) -> Permission:
    place = {"endpoint": "https://api.example.com", "endpoint_owner": "Example Ltd"}
    return _of(**{"teacher": "org/big", **place, **table})


def test_own_model_on_loopback_needs_no_more() -> None:
    """A teacher of one's own on loopback needs its name and nothing else."""
    found = stamp(_of(basis="own-model", teacher="house-skills"), NEAR, NOW)
    assert ("own-model", "house-skills", None) == (found.basis, found.model, found.expires_at)


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [(NEAR, "own-model"), (FAR, "written-grant")],
)
def test_absence_says_what_to_write(teacher: object, expected: str) -> None:
    """Without a permission the error's hint is TOML that reads as a permission for this teacher."""
    with pytest.raises(NotPermittedError) as caught:
        stamp(None, teacher, NOW)
    block = (caught.value.hint or "").split("\n", 1)[1]
    found = msgspec.convert(tomllib.loads(block)["permission"], Permission)
    assert (4, expected, teacher.model) == (caught.value.exit_code, found.basis, found.teacher)


@pytest.mark.parametrize("basis", ["own-model", "written-grant", "licence", "terms"])
def test_a_remote_endpoint_must_be_named(basis: str) -> None:
    """A permission that names no endpoint covers no remote one, whatever its basis."""
    given = {"licence_spdx": "MIT", "terms_url": "https://example.com/t", "terms_sha256": HASH}
    found = _of(basis=basis, teacher="org/big", grant=GRANT, retrieved=date(2026, 5, 1), **given)
    with pytest.raises(NotPermittedError, match=r"covers loopback only"):
        stamp(found, FAR, NOW)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://api.example.com.evil.net/v1",
        "https://api.example.com:8443/v1",
        "http://api.example.com/v1",
        "https://other.example.com/v1",
    ],
)
def test_another_endpoint_stops_the_run(endpoint: str) -> None:
    """The same model at another host, port or scheme is not covered."""
    found = _far(basis="licence", licence_spdx="MIT")
    other = identify(TeacherTable(endpoint=endpoint, model="org/big"))
    with pytest.raises(NotPermittedError, match="permission] is for https"):
        stamp(found, other, NOW)


def test_a_path_narrows_the_endpoint() -> None:
    """A permission for one path of a host does not cover its neighbours."""
    found = _far(basis="licence", licence_spdx="MIT", endpoint="https://api.example.com/a")
    inside = identify(TeacherTable(endpoint="https://api.example.com/a/v1", model="org/big"))
    beside = identify(TeacherTable(endpoint="https://api.example.com/ab/v1", model="org/big"))
    assert "https://api.example.com/a/v1" == stamp(found, inside, NOW).endpoint
    with pytest.raises(NotPermittedError):
        stamp(found, beside, NOW)


@pytest.mark.parametrize(
    ("named", "asked", "fits"),
    [
        ("org/big", "org/big", True),
        ("org/big@main", "org/big", True),
        ("org/*", "org/big", True),
        ("org/b", "org/big", False),
        ("org/big[1]", "org/big1", False),
        ("other", "org/big", False),
    ],
)
def test_another_model_stops_the_run(named: str, asked: str, *, fits: bool) -> None:
    """Only the model named, its revisions, and endings of a `*` are covered."""
    found = _of(basis="own-model", teacher=named)
    teacher = msgspec.structs.replace(NEAR, model=asked)
    if fits:
        assert asked == stamp(found, teacher, NOW).model
    else:
        with pytest.raises(NotPermittedError, match="not for"):
            stamp(found, teacher, NOW)


def test_the_last_day_counts_and_the_next_does_not() -> None:
    """A permission holds to the end of its last day (UTC), and a run stops there too."""
    found = stamp(_of(basis="own-model", teacher="*", expires=date(2026, 6, 1)), NEAR, NOW)
    midnight = datetime(2026, 6, 2, tzinfo=UTC).timestamp()
    found.require(midnight - 1)
    with pytest.raises(NotPermittedError, match="ran out on 2026-06-01"):
        found.require(midnight)
    with pytest.raises(NotPermittedError, match="ran out"):
        stamp(found.permission, NEAR, midnight)


def test_the_earlier_of_two_ends_counts() -> None:
    """A grant that ends before the permission ends it."""
    grant = {**GRANT, "expires": date(2026, 5, 31)}
    found = _far(basis="written-grant", grant=grant, expires=date(2027, 1, 1))
    with pytest.raises(NotPermittedError, match="grant by Example Ltd"):
        stamp(found, FAR, NOW)


def test_scope_is_held() -> None:
    """A grant to train is none to publish."""
    found = stamp(_far(basis="written-grant", grant=GRANT), FAR, NOW)
    found.require(NOW, scope="train")
    with pytest.raises(NotPermittedError, match="not publish"):
        found.require(NOW, scope="publish")


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ({"basis": "written-grant"}, "grant"),
        ({"basis": "licence"}, "licence_spdx"),
        ({"basis": "licence", "licence_spdx": "LicenseRef-x"}, "terms_url"),
        ({"basis": "terms"}, "terms_url"),
        ({"basis": "terms", "terms_url": "https://e.com", "terms_sha256": "12"}, "terms_sha256"),
        ({"basis": "own-model", "licence_spdx": "Apache 2"}, "licence_spdx"),
        ({"basis": "own-model", "obligations": ["smile"]}, "obligations"),
        ({"basis": "own-model", "endpoint_owner": ""}, "endpoint_owner"),
        ({"basis": "own-model", "endpoint": "https://u:p@api.example.com"}, "endpoint"),
        ({"basis": "own-model", "teacher": "a*b"}, "teacher"),
        ({"basis": "own-model", "teacher": ""}, "teacher"),
        ({"basis": "written-grant", "grant": {**GRANT, "scope": "publish"}}, "grant.scope"),
        ({"basis": "written-grant", "grant": GRANT, "student_release": "public"}, "grant.scope"),
        ({"basis": "own-model", "endpoint": "https://api.openai.com/v1"}, "basis"),
    ],
)
def test_half_a_claim_is_refused(table: dict[str, object], name: str) -> None:
    """Each basis needs its evidence; the error names the field as the user wrote it."""
    with pytest.raises(InvalidInputError, match=rf"\[permission\]: {name} must be"):
        _far_direct(table)


def _far_direct(table: dict[str, object]) -> None:
    grant = table.get("grant")
    plain = {
        "teacher": "org/big",
        "endpoint": "https://api.example.com",
        "endpoint_owner": "Example Ltd",
        **table,
    }
    if grant is not None:
        from stillwatch.distill.permit.permission import Grant

        plain["grant"] = msgspec.convert(grant, Grant)
    Permission(**{**plain, "obligations": tuple(plain.get("obligations", ()))})


def test_no_secret_in_errors_or_stamps() -> None:
    """A user name or password in an endpoint is shown nowhere."""
    with pytest.raises(InvalidInputError) as caught:
        Permission(
            basis="own-model", teacher="m", endpoint="https://u:hunter2@e.com", endpoint_owner="E"
        )
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_ids_are_of_the_claim() -> None:
    """The id is the same on another day and loopback port, another for another claim."""
    claim = _of(basis="own-model", teacher="*")
    moved = identify(TeacherTable(endpoint="http://127.0.0.1:9000/v1", model="house-skills"))
    ids = [stamp(claim, NEAR, NOW), stamp(claim, moved, NOW + 1e6)]
    other = stamp(_of(basis="own-model", teacher="house-skills"), NEAR, NOW)
    assert ids[0].permission_id == ids[1].permission_id != other.permission_id


def test_stamps_round_trip() -> None:
    """A stamp reads back from JSON as it was."""
    found = stamp(_far(basis="written-grant", grant=GRANT, obligations=["notice:x"]), FAR, NOW)
    read = msgspec.json.decode(msgspec.json.encode(found), type=type(found))
    assert found == read


def test_hints_are_dated_and_no_advice() -> None:
    """What is known of terms is told with its day; obligations that are listed are not repeated."""
    llama = identify(TeacherTable(endpoint="http://127.0.0.1:1/v1", model="Llama-3.1-8B"))
    table = {"basis": "licence", "licence_spdx": "LicenseRef-llama3.1", "teacher": "Llama-3.1-8B"}
    table |= {"terms_url": "https://e.com", "terms_sha256": HASH, "retrieved": date(2025, 6, 1)}
    told = stamp(_of(**table), llama, NOW).hints
    listed = ["name-prefix:Llama", "attribution:Built with Llama"]
    quiet = stamp(_of(**table, obligations=listed), llama, NOW).hints
    assert "as of 20" in told[0]
    assert "not legal advice" in told[0]
    assert [told[1]] == list(quiet)
    assert "365 days ago" in told[1]
