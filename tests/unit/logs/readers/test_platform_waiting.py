"""Formats whose parts lie apart: order, lateness, bounds; and what is skipped is counted."""

import random
from collections import Counter
from typing import Any

import pytest

from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.readers import azure_apim, envoy_ai, nginx, otel
from stillwatch.record.exchange import Exchange
from stillwatch.record.privacy import KeyedHash

OPTIONS = ReadOptions(KeyedHash(bytes(range(32))))
AT = Origin("log", 1)


def _span(n: int, **attributes: Any) -> dict[str, Any]:
    return {
        "traceId": "ab",
        "spanId": f"{n:04x}",
        "startTimeUnixNano": 1_793_620_800_000_000_000 + n,
        "attributes": {"gen_ai.request.model": "m", **attributes},
    }


def _event(n: int, name: str, body: Any) -> dict[str, Any]:
    return {
        "traceId": "ab",
        "spanId": f"{n:04x}",
        "timeUnixNano": "1793620801000000000",
        "eventName": name,
        "body": body,
        "attributes": {},
    }


def test_events_in_any_order_give_one_exchange() -> None:
    """A span, its questions and its choices become one exchange wherever the span stands."""
    parts = [
        _span(1),
        _event(1, "gen_ai.user.message", {"content": "q"}),
        _event(1, "gen_ai.choice", {"index": 1, "message": {"content": "b"}}),
        _event(1, "gen_ai.choice", {"index": 0, "message": {"content": "a"}}),
    ]
    seen = set()
    for seed in range(12):
        random.Random(seed).shuffle(parts)
        conversion = otel.READER.begin(OPTIONS)
        assert [] == [found for part in parts for found in conversion.convert(part, AT)]
        [found] = conversion.finish()
        seen.add((found.question, tuple(answer.text for answer in found.answers)))
    assert {("q", ("a", "b"))} == seen


def test_otel_window_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window holds only so many calls; the oldest leaves first, a late part stands alone."""
    monkeypatch.setattr(otel, "WINDOW", 10)
    conversion = otel.READER.begin(OPTIONS)
    out = [found for n in range(30) for found in conversion.convert(_span(n), AT)]
    assert [f"ab-{n:04x}" for n in range(20)] == [found.exchange_id for found in out]
    late = _event(0, "gen_ai.user.message", {"content": "q"})
    out += [*conversion.convert(late, AT), *conversion.finish()]
    assert 31 == len(out)
    assert ("ab-0000", "q", "span") == (
        out[-1].exchange_id,
        out[-1].question,
        out[-1].tags["missing"],
    )


def test_otel_window_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts leave the window early."""
    monkeypatch.setattr(otel, "WINDOW_BYTES", 100_000)
    conversion = otel.READER.begin(OPTIONS)
    texts = {"gen_ai.prompt": "x" * 60_000}
    out = [list(conversion.convert(_span(n, **texts), AT)) for n in range(3)]
    assert [0, 1, 1] == [len(found) for found in out]


def test_otel_counts_what_it_skips() -> None:
    """Spans that are no call of a model, and copies of one, are counted by what they are."""
    conversion = otel.READER.begin(OPTIONS)
    tool = _span(1, **{"gen_ai.operation.name": "execute_tool"})
    http = {**_span(2), "attributes": {"http.request.method": "GET"}}
    for part in (tool, http, _span(3), _span(3)):
        conversion.convert(part, AT)
    assert 1 == len(list(conversion.finish()))
    assert isinstance(conversion, otel.OtelConversion)
    expected = {"span of execute_tool": 1, "other span": 1, "span sent twice": 1}
    assert Counter(expected) == conversion.skipped


def _row(n: int, **columns: Any) -> dict[str, Any]:
    return {"CorrelationId": f"c{n}", "TimeGenerated": "2026-11-02T10:00:00Z", **columns}


def _azure(rows: list[dict[str, Any]]) -> tuple[list[Exchange], azure_apim.AzureApimConversion]:
    conversion = azure_apim.AzureApimConversion(OPTIONS)
    out = [found for one in rows for found in conversion.convert(one, AT)]
    return [*out, *conversion.finish()], conversion


def test_azure_rows_in_any_order() -> None:
    """The rows of a call give the same exchange in every order, pieces by their number."""
    text = '[{"role": "user", "content": "one two three"}]'
    rows = [
        _row(1, SequenceNumber=n, RequestMessages=text[10 * n : 10 * n + 10]) for n in range(5)
    ] + [
        _row(1, SequenceNumber=7, ResponseMessages='[{"role": "assistant", "content": "four"}]'),
        _row(1, SequenceNumber=0, DeploymentName="d", PromptTokens=3, CompletionTokens=1),
        _row(1, ApimSubscriptionId="team", ResponseCode=200, CallerIpAddress="8.8.8.8"),
    ]
    seen = set()
    for seed in range(12):
        random.Random(seed).shuffle(rows)
        [found], _ = _azure(rows)
        seen.add((found.account, found.question, found.answer, found.input_tokens, found.model))
    assert {("team", "one two three", "four", 3, "d")} == seen


def test_azure_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rows wait than allowed, and none is lost for it."""
    monkeypatch.setattr(azure_apim, "_WAITING_ROWS", 10)
    found, _ = _azure([_row(n, PromptTokens=1, ModelName="m", TotalTokens=1) for n in range(40)])
    assert [f"c{n}" for n in range(40)] == [one.exchange_id for one in found]


def test_skipped_requests_are_counted() -> None:
    """Requests that ask no model give nothing and are counted."""
    found, conversion = _azure([_row(1, ApimSubscriptionId="t", Url="https://a.example/ferries")])
    assert ([], {"call of another API": 1}) == (found, conversion.skipped)
    line = b'8.8.8.8 - - [02/Nov/2026:16:51:37 +0000] "GET /v1/models HTTP/1.1" 200 4 "-" "-"'
    access = nginx.NginxConversion(OPTIONS)
    assert () == access.convert(nginx.READER.decode(line), AT)
    assert {"request of another path or method": 1} == access.skipped
    envoy = envoy_ai.EnvoyAiConversion(OPTIONS)
    tool = {"start_time": "2026-11-02T16:51:37Z", "mcp_method": "tools/call", "path": "/mcp"}
    assert () == envoy.convert(tool, AT)
    assert {"tool call (MCP)": 1} == envoy.skipped


def test_time_zone_of_times_without_one() -> None:
    """A time without a zone is read with the offset asked for; one with a zone is not moved."""
    east = ReadOptions(OPTIONS.keyed_hash, timezone_offset_s=3600.0)
    base = {"response_code": 200, "gen_ai.request.model": "m"}
    times = [
        envoy_ai.READER.begin(options).convert({**base, "start_time": told}, AT)
        for options in (OPTIONS, east)
        for told in ("2026-11-02T10:00:00", "2026-11-02T10:00:00Z")
    ]
    starts = [exchange.started_at for found in times for exchange in found]
    assert [0.0, 0.0, -3600.0, 0.0] == [start - starts[0] for start in starts]
