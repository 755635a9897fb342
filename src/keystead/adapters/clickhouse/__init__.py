"""Usage past one machine: ClickHouse, or its engine inside this process (chDB)."""
