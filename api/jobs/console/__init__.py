"""The web console at `/console`: jobs as people look at them, in a browser (docs/console.md)."""

from api.jobs.console.door import console_routes

__all__ = ["console_routes"]
