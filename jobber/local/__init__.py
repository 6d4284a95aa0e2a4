"""Real parts on this machine: embedded PostgreSQL, Pulsar standalone, and the supervisor of `jobber up`."""
