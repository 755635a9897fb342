"""Retries are safe (P9): a mutation repeated under its idempotency key returns the reply it returned."""
