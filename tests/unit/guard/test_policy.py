"""Policy files: what is read, what is refused and where, what rules do together."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.guard.policies import POLICY, write_policy

from stillwatch.errors import ConfigError
from stillwatch.guard.policy.cases import check_cases, run_cases
from stillwatch.guard.policy.document import load_policy
from stillwatch.guard.policy.engine import Engine
from stillwatch.guard.policy.facts import Asking, FactSource, capabilities, route_capabilities
from stillwatch.guard.policy.facts_file import parse_fact
from stillwatch.guard.policy.limits import Buckets, Window
from stillwatch.guard.policy.lists import Networks
from stillwatch.guard.policy.locate import line_of, locate_keys
from stillwatch.guard.policy.vocabulary import NOTHING, PLACES
from stillwatch.guard.wall.ladder import DAY_S, Rung
from stillwatch.logs.accounts import AccountRow

NOW = 1_795_000_000.0  # in November 2026


def facts(**given: object) -> list[object]:
    """Facts of which only these are known."""
    found: list[object] = list(NOTHING)
    for name, value in given.items():
        found[PLACES[name]] = value
    return found


def engine(folder: Path, text: str = POLICY, **how: str) -> Engine:
    """The policy, compiled."""
    return Engine(load_policy(write_policy(folder, text, **how)))


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The policy, compiled once."""
    return engine(tmp_path_factory.mktemp("policy"))


def test_every_inline_test_runs(tmp_path: Path) -> None:
    """Each test of each rule, and each of the whole, is run and has its line."""
    policy = load_policy(write_policy(tmp_path))
    results = run_cases(policy)
    assert [4, 2, 2, 2, 1] == [
        sum(r.rule == name for r in results)
        for name in ("closed-country", "partner", "many-answers", "watch-young", "")
    ]
    assert [] == [r for r in results if r.failure is not None]
    lines = POLICY.splitlines()
    assert all("facts" in lines[r.line - 1] or lines[r.line - 1].startswith("[[") for r in results)


def test_failing_test_is_named(tmp_path: Path) -> None:
    """A test that does not hold refuses the file, with its line and what came instead."""
    text = POLICY.replace('{ facts = { account_age_days = 7 }, fires = false }',
                          '{ facts = { account_age_days = 6 }, fires = false }')  # fmt: skip
    line = text.splitlines().index("  { facts = { account_age_days = 6 }, fires = false },") + 1
    with pytest.raises(ConfigError, match=rf"policy.toml:{line}: rule 'watch-young'.* not fire"):
        check_cases(load_policy(write_policy(tmp_path, text)))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("asks = { any", "aks = { any", "unknown word 'aks'"),
        ("{ any = [", "{ some = [", "unknown question 'some' about asks"),
        ('"logprobs"]', '"logprob"]', "unknown value 'logprob'"),
        ('in = "@closed" }', 'in = "@open" }', "unknown list '@open'; known are closed"),
        ('action = "throttle"', 'action = "slow"', "action must be one of allow, observe"),
        ("limit_per_day = 24", "limit_per_day = 0", "limit_per_day must be above 0"),
        ('kind = "abuse"', 'knd = "abuse"', "unknown key 'knd'"),
        ("shadow = true", 'shadow = "no"', "shadow must be true or false"),
        ('id = "partner"', 'id = "closed-country"', "is the id of the rule on line"),
        ('kind = "service"', 'kind = "legal"', "allow must not be of kind legal"),
        ("from = 2026-01-01", "from = 20260101", "from must be a day"),
        ("message =", 'fail = "open"\nmessage =', "must fail closed"),
        ("above = 0.5", "above = 2", "a share from 0"),
        ('["house-skills"]', '["house-*-x"]', "a beginning with \\* at its end"),
        ("when = { org =", "when = { org_country =", "a country code of two capital letters"),
        ('owner = "sales@example.org"\n', "", "owner must be given"),
        ("fires = true },\n  { facts = { account_age_days = 7 }, fires = false", "fires = true",
         "one that does not"),
        ("below = 7 }", "below = true }", "compared with a number"),
        ('path = "closed.txt"', 'path = "gone.txt"', "gone.txt: the list cannot be read"),
        ("review_by = 2099-01-01\nwhen", "review_by = \nwhen", "not TOML"),
    ],
)  # fmt: skip
def test_refused_with_line_and_reason(tmp_path: Path, old: str, new: str, reason: str) -> None:
    """Whatever is wrong is refused with the file, the line where it stands, and the reason."""
    assert old in POLICY
    text = POLICY.replace(old, new, 1)
    with pytest.raises(ConfigError, match=reason) as refused:
        load_policy(write_policy(tmp_path, text))
    file, line, _ = str(refused.value).removeprefix(str(tmp_path)).split(":", 2)
    assert "/policy.toml" == file
    changed = POLICY[: POLICY.index(old)].count("\n") + 1
    # The line of the key at fault: that of a contradiction is the other key's, that of a missing
    # key is its table's.
    assert changed - 12 <= int(line) <= changed + 3


def test_missing_facts(tmp_path: Path) -> None:
    """Legal rules fire when a fact that decides is not known, others do not."""
    judge = engine(tmp_path).judge
    unknown = judge(facts(), NOW)
    assert ("block", "closed-country") == (unknown.ruling.effect, unknown.ruling.rule.id)
    assert [("closed-country", True)] == [(f.rule.id, f.is_missing) for f in unknown.fired]
    half = judge(facts(org_country="DE", owners={"XA": 0.3, "DE": 0.4}), NOW)
    whole = judge(facts(org_country="DE", owners={"XA": 0.3, "DE": 0.7}), NOW)
    assert ("block", None) == (half.ruling.effect, whole.ruling.effect)


def test_stale_list_fails_closed(tmp_path: Path) -> None:
    """A list that is too old answers nothing, and the legal rule that asks it fails closed."""
    known = facts(org_country="DE", owners={"DE": 1.0})
    assert None is engine(tmp_path).judge(known, NOW).ruling.effect
    judged = engine(tmp_path, date="2026-01-01").judge(known, NOW)
    assert ("block", True) == (judged.ruling.effect, judged.fired[0].is_missing)


def test_precedence(tmp_path: Path) -> None:
    """An exemption lifts abuse rules and never legal ones; the strictest of the rest wins."""
    text = POLICY.replace("shadow = true", "shadow = false")
    judge = engine(tmp_path, text).judge
    clean = {"org_country": "DE", "owners": {"DE": 1.0}, "account": "a"}
    young = {**clean, "account_age_days": 1.0, "asks": frozenset({"many"})}
    assert "watch-young" == judge(facts(**young), NOW).ruling.rule.id
    partner = judge(facts(**young, org="org-partner"), NOW).ruling
    assert ("allow", "partner") == (partner.effect, partner.rule.id)
    legal = judge(facts(**{**young, "org": "org-partner", "org_country": "XA"}), NOW).ruling
    assert ("block", "closed-country") == (legal.effect, legal.rule.id)


def test_throttle_and_shadow(tmp_path: Path) -> None:
    """A throttle lets its limit through and says when to come again; shadow changes nothing."""
    judge = engine(tmp_path).judge
    clean = facts(account="a", org_country="DE", owners={"DE": 1.0}, asks=frozenset({"many"}))
    assert [None, "throttle"] == [judge(clean, NOW).ruling.effect for _ in range(2)]
    assert 3600.0 == judge(clean, NOW).ruling.retry_after_s
    assert None is judge(clean, NOW + 3600.0).ruling.effect
    young = facts(org_country="DE", owners={"DE": 1.0}, account_age_days=2.0)
    judged = judge(young, NOW)
    assert (None, "block") == (judged.ruling.effect, judged.would and judged.would.effect)


def test_dates(tmp_path: Path) -> None:
    """A rule holds from its first day to the end of its last."""
    text = POLICY.replace("review_by", "until = 2026-11-30\nreview_by", 1)
    judge = engine(tmp_path, text).judge
    first, last = 1_767_225_600.0, 1_796_083_200.0
    assert [None, "block", "block", None] == [
        judge(facts(org_country="XA"), at).ruling.effect
        for at in (first - 1, first, last - 1, last)
    ]


@given(
    kyc=st.none() | st.integers(0, 4),
    country=st.sampled_from([None, "XA", "DE"]),
    asks=st.none() | st.frozensets(st.sampled_from(["many", "tools"])),
    age=st.none() | st.floats(0, 30),
    org=st.sampled_from([None, "org-partner", "o"]),
)
def test_remembering_changes_nothing(
    ready: Engine, kyc: object, country: object, asks: object, age: object, org: object
) -> None:
    """Rules that an account's own facts settled need not be asked again: the answer is the same."""
    known = facts(kyc_level=kyc, org_country=country, asks=asks, account_age_days=age, org=org,
                  owners={"DE": 1.0}, account="a")  # fmt: skip
    ready._left.clear()
    plain = ready.firing(known, NOW)
    assert [plain, plain] == [ready.firing(known, NOW, remember=True) for _ in range(2)]


def test_facts_of_an_account(tmp_path: Path) -> None:
    """Facts come from the columns and tags of the accounts table; garbage there is not known."""
    rows = {
        "a": AccountRow(
            account="a", billing_country="de", created_at=NOW - 3 * DAY_S, reseller_id="r1",
            tags=("owners=XA:0.5|DE:0.5", "list_hits=eu:2026-11-01", "vip"),
        ),
        "r1": AccountRow(account="r1", reseller_id="r2"),
        "b": AccountRow(account="b", billing_country="Germany", tags=("owners=XA:lots",)),
    }  # fmt: skip
    text = POLICY.replace("account_age_days = {", "network_country = 'FR', account_age_days = {")
    source = FactSource(load_policy(write_policy(tmp_path, text)), rows)
    asking = Asking("a", "org", "house-skills", frozenset({"tools"}), "127.1.2.3")
    found = dict(zip(PLACES, source.facts(asking, NOW), strict=True))
    assert ("DE", 3.0, 2, {"XA": 0.5, "DE": 0.5}, "frontier", "FR") == tuple(
        found[name] for name in (
            "billing_country", "account_age_days", "reseller_depth", "owners", "model_tier",
            "network_country",
        )
    )  # fmt: skip
    assert (False, "", 0.0, None) == tuple(
        found[name] for name in ("in_campaign", "campaign", "risk", "org_country")
    )
    other = dict(zip(PLACES, source.facts(Asking("b"), NOW), strict=True))
    assert (None, None, 0) == tuple(
        other[name] for name in ("billing_country", "owners", "reseller_depth")
    )


def test_capabilities() -> None:
    """What a question asks for is read from its parameters, and from the route where it is not."""
    asked = {"n": 4, "top_logprobs": 5, "tools": [], "reasoning_effort": "high", "seed": 0}
    assert {"many", "logprobs", "reasoning", "seed"} == capabilities(asked)
    assert {"tools", "stream"} == capabilities({}, has_tools=True, streamed=True)
    assert {"other_route", "batch"} == route_capabilities("/v1/batches")


def test_networks(tmp_path: Path) -> None:
    """The longest prefix says where an address lies, in both families."""
    write_policy(tmp_path)
    country = Networks.read(tmp_path / "networks.csv").country
    assert ["FR", "DE", "XA", None, "DE", None] == [
        country(a) for a in
        ("127.1.0.9", "127.9.0.1", "2001:db8::1", "10.0.0.1", "::ffff:127.0.0.1", "x")
    ]  # fmt: skip


@given(
    st.recursive(
        st.integers() | st.booleans() | st.text("ab#'\"\\\n]}", max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_every_key_has_its_line(value: object) -> None:
    """Whatever stands in a value, the keys behind it are found on their lines."""
    text = f"first = {_toml(value)}\n\n# [no]\n[[rules]]\nid = 'x'\n[[rules]]\n[rules.when]\nrisk=3"
    assert "x" == tomllib.loads(text)["rules"][0]["id"]
    lines = locate_keys(text)
    assert 5 + text[: text.index("\n\n# [no]")].count("\n") == lines["rules", 0, "id"]
    assert text.count("\n") + 1 == line_of(lines, ("rules", 1, "when", "risk", "below"))


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"""\n{escaped}"""'
    return str(value)


def test_memory_is_bounded() -> None:
    """Buckets and volumes do not grow with the accounts that clients invent."""
    rung, buckets = Rung("throttle", limit_per_day=1), Buckets(most=100)
    for n in range(1000):
        buckets.take(("rule", f"{n}"), NOW, rung=rung)
    assert len(buckets) <= 100
    assert 0 < buckets.wait_s(("rule", "999"), NOW, rung=rung)
    hour = Window(3600.0)
    assert [1, 2, 3] == [hour.add("a", NOW) for _ in range(3)]
    assert 1.0 == hour.add("a", NOW + 7200.0)


def test_facts_by_hand() -> None:
    """A fact on the command line has its word's kind."""
    assert [("kyc_level", 2), ("asks", frozenset({"many"})), ("owners", {"XA": 0.6})] == [
        parse_fact(text) for text in ("kyc_level=2", "asks=many", "owners=XA:0.6")
    ]
