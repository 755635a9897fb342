"""Concrete technology behind the domains' ports, one folder each."""
