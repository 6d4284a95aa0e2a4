"""How fast products writes, against `psql \\copy` of the same rows into the same table."""
