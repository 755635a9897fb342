"""One adapter for SQLite and PostgreSQL, by SQLAlchemy Core."""
