"""Numbers for other tools: Prometheus and OpenTelemetry."""
