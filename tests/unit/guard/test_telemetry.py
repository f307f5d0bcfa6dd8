"""OpenTelemetry out, read by a collector that decodes what came."""

import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from tests.unit.guard.conftest import SECRETS, served
from tests.unit.guard.test_admin import name_web

from stillwatch.errors import InvalidInputError
from stillwatch.guard.config import GuardConfig
from stillwatch.guard.telling.telemetry_config import OtelConfig

Make = Callable[..., GuardConfig]
traces = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
points = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")


@dataclass
class Collector:
    """An OTLP/HTTP collector."""

    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    resources: list[Any] = field(default_factory=list)
    status: int = 200

    async def take(self, request: web.Request) -> web.Response:
        """Decode one sending."""
        raw = await request.read()
        if request.headers.get("content-encoding") == "gzip":
            raw = gzip.decompress(raw)
        self.headers.append({k.lower(): v for k, v in request.headers.items()})
        if self.status != 200:
            return web.Response(status=self.status)
        if request.path == "/v1/traces":
            for whole in traces.ExportTraceServiceRequest.FromString(raw).resource_spans:
                self.resources.append(whole.resource)
                self.spans += [s for scope in whole.scope_spans for s in scope.spans]
        else:
            for whole in points.ExportMetricsServiceRequest.FromString(raw).resource_metrics:
                found = [m for scope in whole.scope_metrics for m in scope.metrics]
                self.metrics |= {metric.name: metric for metric in found}
        return web.Response(body=b"", content_type="application/x-protobuf")


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A running collector."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/{what}", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield collector
    await runner.cleanup()


def _values(span: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        found = getattr(value, kind)
        return [plain(v) for v in found.values] if kind == "array_value" else found

    return {pair.key: plain(pair.value) for pair in span.attributes}


async def test_spans_and_counters(make_config: Make) -> None:
    """A question is a span with GenAI attributes and none of its words; counters come along."""
    config = make_config(secrets=replace(SECRETS, otlp_headers="x-team=red,authorization=k%20ey"))
    name_web(config, "ann")
    async with collecting() as collector:
        config = replace(config, otel=OtelConfig(collector.url, sample=1.0))
        async with served(config) as gateway:
            assert 200 == (await gateway.ask("roman secret", key="key-bob"))[0]
            assert 403 == (await gateway.ask("roman secret"))[0]
            await gateway.state.recorder.flush()
    answered, refused = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
    found = _values(answered)
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "house-skills",
        "gen_ai.response.model": "house-skills",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 3,
        "http.response.status_code": 200,
        "stillwatch.action": "allow",
    }.items() <= found.items()
    assert ("chat house-skills", 3) == (answered.name, answered.kind)
    assert answered.start_time_unix_nano < answered.end_time_unix_nano
    assert ("block", "web-1", 403) == tuple(
        _values(refused)[name]
        for name in ("stillwatch.action", "stillwatch.campaign", "http.response.status_code")
    )
    told = str(collector.spans) + str(collector.resources)
    assert not any(word in told for word in ("secret", "XIV", "key-bob", "ann", "bob"))
    assert {("red", "k ey")} == {(h["x-team"], h["authorization"]) for h in collector.headers}
    requests = collector.metrics["stillwatch_requests"].sum
    assert requests.is_monotonic
    assert [1, 1] == [point.as_int or point.as_double for point in requests.data_points]
    (times,) = collector.metrics["stillwatch_answer_seconds"].histogram.data_points
    assert (1, len(times.explicit_bounds) + 1) == (times.count, len(times.bucket_counts))
    assert 1.0 == collector.metrics["stillwatch_flagged_accounts"].gauge.data_points[0].as_double


async def test_sampling(make_config: Make) -> None:
    """Refusals are always a span, others as drawn, or as a client says who is believed."""
    parent = {"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"}
    for follow, expected in ((False, ["block"]), (True, ["allow", "block"])):
        config = make_config()
        name_web(config, "ann")
        async with collecting() as collector:
            otel = OtelConfig(collector.url, sample=0.0, accounts=True, follow_clients=follow)
            async with served(replace(config, otel=otel)) as gateway:
                await gateway.ask(key="key-bob", **parent)
                await gateway.ask(key="key-bob")
                await gateway.ask()
                await gateway.state.recorder.flush()
        found = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
        assert expected == [_values(span)["stillwatch.action"] for span in found]
        assert "ann" == _values(found[-1])["stillwatch.account"]
    assert ("ab" * 16, "cd" * 8) == (found[0].trace_id.hex(), found[0].parent_span_id.hex())


async def test_collector_away(make_config: Make) -> None:
    """A collector that refuses costs its spans, counted, and no question."""
    async with collecting() as collector:
        collector.status = 400
        config = replace(make_config(), otel=OtelConfig(collector.url, sample=1.0, every_s=0.05))
        async with served(config) as gateway:
            assert 200 == (await gateway.ask())[0]
            while not gateway.state.metrics.value("telemetry_dropped"):
                assert 200 == (await gateway.ask())[0]
            assert gateway.state.metrics.value("telemetry_failures") >= 1


@pytest.mark.parametrize(
    "wrong", [{"endpoint": "ftp://x"}, {"sample": 1.1}, {"every_s": 0.0}], ids=str
)
def test_config(wrong: dict[str, Any]) -> None:
    """Values out of range are refused."""
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        OtelConfig(**wrong)
