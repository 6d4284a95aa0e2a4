"""The same rows through other tools."""
