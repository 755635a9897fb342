"""Keystead: API keys for your customers, without writing the plumbing."""

__version__ = "0.1.0"
