"""Measures Keystead: ``python -m bench`` prints tables, ``docs/explanation/performance.md`` says how to read them."""
