"""Whole loads, from submission to success, against `psql \\copy` of the same rows."""
