"""Sinks: where the event log is carried, record by record."""
