"""Large files of each kind: what the services hold of them at once."""
