"""The memory twin of every store: the reference that the contract suites hold the real ones against."""
