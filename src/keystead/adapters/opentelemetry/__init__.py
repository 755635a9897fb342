"""Traces, sent to an OpenTelemetry collector."""
