"""OpenTelemetry out: one span for a sampled question, and the counters, by OTLP over HTTP.

Nothing of a body goes out, and accounts only where the configuration says so. A question that is
not sampled costs one random number; spans are made and sent by a thread, in batches, and dropped
and counted when the collector does not keep up.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from stillwatch import __version__
from stillwatch.errors import extra
from stillwatch.guard.admin.gauges import gauges
from stillwatch.guard.admin.traffic import REFUSALS, Extra, Passed, Traffic
from stillwatch.guard.connections.relay import Relayed
from stillwatch.guard.recording.recorder import Asked
from stillwatch.guard.telling.metrics import Metrics
from stillwatch.guard.telling.telemetry_config import OtelConfig
from stillwatch.model.protocol import Reply

if TYPE_CHECKING:
    from stillwatch.guard.state import GuardState

_log = logging.getLogger("stillwatch.guard")
_SCOPE: Final = "stillwatch.guard"
_MOST_WAITING: Final = 4_096
#: W3C Trace Context, version 00.
_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
#: OpenTelemetry's semantic conventions for generative AI, by the parameter's name on the wires.
_PARAMETERS: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "n": "gen_ai.request.choice.count",
}


class Telemetry:
    """Collects and sends.

    Args:
        config: with an endpoint.
        headers: `OTEL_EXPORTER_OTLP_HEADERS`: name=value pairs with commas between, or None.
        metrics: the counters.
        traffic: what passed.
        gauges: values of the moment, by full name.

    Raises:
        MissingExtraError: the extra `otel` is not installed.
    """

    def __init__(
        self,
        config: OtelConfig,
        *,
        headers: str | None,
        metrics: Metrics,
        traffic: Traffic,
        gauges: Callable[[], Mapping[str, float]],
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._traffic = traffic
        self._gauges = gauges
        self._waiting: deque[Passed] = deque()
        # Which questions are sampled must not be guessable, nor depend on any seed of ours.
        self._random = random.SystemRandom()
        self._draw = random.Random(self._random.getrandbits(128)).random
        self._sender = _Sender(config, headers)
        traffic.describe, traffic.on_batch = self.describe, self.collect

    def describe(self, asked: Asked, relayed: Relayed, reply: Reply) -> Extra | None:
        """Sample a question, and keep what its span will say.

        Args:
            asked: the question and its decision.
            relayed: what came of it.
            reply: as read.

        Returns:
            What the span says besides, or None when there will be none.
        """
        config = self._config
        if self._draw() >= config.sample and not self._is_told(asked, relayed):
            return None
        parameters = asked.question.parameters if asked.question is not None else {}
        return Extra(
            asked.wire.name,
            reply.model_returned,
            reply.input_tokens,
            tuple(answer.finish_reason for answer in reply.answers if answer.finish_reason),
            asked.traceparent if config.follow_clients else None,
            {name: parameters[name] for name in _PARAMETERS if name in parameters},
        )

    def _is_told(self, asked: Asked, relayed: Relayed) -> bool:
        if asked.decision.action in REFUSALS or relayed.status >= 500 or relayed.status == 0:
            return True
        if not self._config.follow_clients or asked.traceparent is None:
            return False
        found = _TRACEPARENT.fullmatch(asked.traceparent)
        return found is not None and bool(int(found[3], 16) & 1)

    def collect(self, rows: Sequence[Passed]) -> None:
        """Keep the sampled ones of a batch until they are sent.

        Args:
            rows: what passed.
        """
        sampled = [row for row in rows if row.more is not None]
        room = max(0, _MOST_WAITING - len(self._waiting))
        self._waiting.extend(sampled[:room])
        if len(sampled) > room:
            self._metrics.count("telemetry_dropped", len(sampled) - room)

    async def run(self) -> None:
        """Send, time after time, until cancelled."""
        while True:
            await asyncio.sleep(self._config.every_s)
            await self.push()

    async def push(self) -> None:
        """Send what has come together; a collector that is away costs its spans, no more."""
        self._traffic.fold()
        rows, self._waiting = list(self._waiting), deque()
        counts, gauges = self._metrics.counts(), self._gauges()
        histograms = {
            name: (list(found.counts), found.sum_s, found.help)
            for name, found in self._traffic.histograms.items()
        }
        batch = _Batch(rows, counts, gauges, histograms)
        sent = await asyncio.to_thread(self._sender.send, batch)
        if not sent:
            self._metrics.count("telemetry_failures")
            self._metrics.count("telemetry_dropped", len(rows))

    async def close(self) -> None:
        """Send the rest and let go of the connections."""
        await self.push()
        await asyncio.to_thread(self._sender.close)


def open_telemetry(state: GuardState) -> Telemetry:
    """Begin to collect.

    Args:
        state: a gateway's that is about to serve; its configuration names a collector.

    Returns:
        What sends, once it runs.

    Raises:
        MissingExtraError: the extra `otel` is not installed.
    """
    return Telemetry(
        state.config.otel,
        headers=state.config.secrets.otlp_headers,
        metrics=state.metrics,
        traffic=state.traffic,
        gauges=lambda: gauges(state),
    )


Counts = Mapping[tuple[str, tuple[tuple[str, str], ...]], int]
_Histograms = Mapping[str, tuple[list[int], float, str]]


class _Batch(NamedTuple):
    """What is sent at once."""

    rows: Sequence[Passed]
    counts: Counts
    gauges: Mapping[str, float]
    histograms: _Histograms


class _Sender:
    """Speaks OTLP by OpenTelemetry's own library, loaded here and nowhere else."""

    def __init__(self, config: OtelConfig, headers: str | None) -> None:
        with extra("otel"):
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        base = (config.endpoint or "").rstrip("/")
        lines = _header_lines(headers)
        # Retries within this time; longer ones would pile up sendings.
        timeout_s = min(10.0, config.every_s)
        self._config = config
        self._spans = OTLPSpanExporter(f"{base}/v1/traces", headers=lines, timeout=timeout_s)
        self._points = OTLPMetricExporter(f"{base}/v1/metrics", headers=lines, timeout=timeout_s)
        self._resource = Resource({
            "service.name": config.service,
            "service.version": __version__,
        })
        self._scope = InstrumentationScope(_SCOPE, __version__)
        self._began_ns = time.time_ns()

    def send(self, batch: _Batch) -> bool:
        """Send one batch of spans and the state of the counters."""
        from opentelemetry.sdk.metrics.export import MetricExportResult
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            spans = [self._span(row) for row in batch.rows]
            is_sent = not spans or self._spans.export(spans) is SpanExportResult.SUCCESS
            points = self._metrics_data(batch)
            return self._points.export(points) is MetricExportResult.SUCCESS and is_sent
        except Exception as error:
            # Whatever goes wrong with telemetry must not end it, or anything else.
            _log.error("telemetry cannot be sent: %s", type(error).__name__)
            return False

    def close(self) -> None:
        """Close the exporters."""
        self._spans.shutdown()  # type: ignore[no-untyped-call]
        self._points.shutdown()

    def _span(self, row: Passed) -> Any:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode

        assert row.more is not None, "sampled"
        found = _TRACEPARENT.fullmatch(row.more.traceparent or b"")
        draw = random.SystemRandom().getrandbits
        trace_id = int(found[1], 16) if found else draw(128) or 1
        parent = SpanContext(trace_id, int(found[2], 16), is_remote=True) if found else None
        flags = TraceFlags(TraceFlags.SAMPLED)
        is_failed = row.status >= 500 or row.status == 0 or row.error is not None
        start_ns = int(row.at * 1e9)
        return ReadableSpan(
            f"{_operation(row.more.wire)} {row.model}".rstrip(),
            context=SpanContext(trace_id, draw(64) or 1, is_remote=False, trace_flags=flags),
            parent=parent,
            resource=self._resource,
            attributes=_attributes(row, accounts=self._config.accounts),
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.ERROR if is_failed else StatusCode.UNSET),
            start_time=start_ns,
            end_time=start_ns + int((row.whole_s or 0.0) * 1e9),
            instrumentation_scope=self._scope,
        )

    def _metrics_data(self, batch: _Batch) -> Any:
        from opentelemetry.sdk.metrics import export

        now_ns = time.time_ns()
        whole = export.AggregationTemporality.CUMULATIVE

        def point(value: float, attributes: Mapping[str, str]) -> Any:
            return export.NumberDataPoint(dict(attributes), self._began_ns, now_ns, value)

        by_name: dict[str, list[Any]] = {}
        for (name, labels), value in sorted(batch.counts.items()):
            by_name.setdefault(name.removesuffix("_total"), []).append(point(value, dict(labels)))
        found = [
            export.Metric(name, None, "1", export.Sum(points, whole, is_monotonic=True))
            for name, points in by_name.items()
        ]
        found += [
            export.Metric(name, None, "1", export.Gauge([point(value, {})]))
            for name, value in batch.gauges.items()
        ]
        for name, (sizes, sum_s, what) in batch.histograms.items():
            data = export.HistogramDataPoint(
                {}, self._began_ns, now_ns, sum(sizes), sum_s, sizes, Traffic.bounds, 0.0, 0.0
            )
            short = f"stillwatch_{name}"
            found.append(export.Metric(short, what, "s", export.Histogram([data], whole)))
        scope = export.ScopeMetrics(self._scope, found, "")
        return export.MetricsData([export.ResourceMetrics(self._resource, [scope], "")])


def _operation(wire: str) -> str:
    return "text_completion" if wire == "openai.completions" else "chat"


def _attributes(row: Passed, *, accounts: bool) -> dict[str, Any]:
    more = row.more
    assert more is not None, "sampled"
    found: dict[str, Any] = {
        "gen_ai.operation.name": _operation(more.wire),
        "gen_ai.provider.name": more.wire.partition(".")[0],
        "gen_ai.request.model": row.model,
        "gen_ai.response.model": more.model_returned,
        "gen_ai.response.finish_reasons": more.finish_reasons,
        "gen_ai.usage.input_tokens": more.input_tokens,
        "gen_ai.usage.output_tokens": row.output_tokens or None,
        "gen_ai.request.stream": row.streamed or None,
        "http.response.status_code": row.status or None,
        "error.type": row.error or (str(row.status) if row.status >= 500 else None),
        "stillwatch.exchange_id": row.exchange_id,
        "stillwatch.action": row.action,
        "stillwatch.would_have": row.would_have,
        "stillwatch.campaign": row.campaign_id,
        "stillwatch.reason": row.reason,
        "stillwatch.rule": row.rule,
        "stillwatch.added_s": row.own_s,
        "stillwatch.first_byte_s": row.first_s,
        "stillwatch.account": row.account if accounts else None,
    }
    for name, value in more.parameters.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[_PARAMETERS[name]] = value
    return {name: value for name, value in found.items() if value not in (None, "", ())}


def _header_lines(text: str | None) -> dict[str, str]:
    pairs = (part.partition("=") for part in (text or "").split(",") if "=" in part)
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
