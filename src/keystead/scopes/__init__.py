"""Scopes: what is granted, what is asked, and whether the one covers the other."""
