"""Jobber: a distributed job engine for bulk loads and pluggable jobs.

What a job type needs is here; everything else is internal. Importing it is cheap: polars is not loaded.
"""

from jobber.errors import JobberError, Terminal, Transient
from jobber.job import Args, Lookups, job

__all__ = ["Args", "JobberError", "Lookups", "Terminal", "Transient", "job"]
