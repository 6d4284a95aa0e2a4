"""Where the CPU of a load goes before PostgreSQL: step by step, by format."""
