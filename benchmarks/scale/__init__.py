"""Whether it stays as fast, and as small, with more rows, more executors, more users."""
