"""What exactly-once costs."""
