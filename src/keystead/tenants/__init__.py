"""Workspaces and owners: who is a wall to whom (P8)."""
