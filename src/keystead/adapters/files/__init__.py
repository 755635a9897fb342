"""What lives in the data directory besides the database."""
