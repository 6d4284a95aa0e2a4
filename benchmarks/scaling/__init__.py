"""What one core of each service, and of PostgreSQL, gets through in a load."""
