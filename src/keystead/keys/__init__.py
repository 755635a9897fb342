"""Keys and their secrets: how they are made, changed, rotated and revoked."""
