"""UPSERT into a full table, against psql."""
