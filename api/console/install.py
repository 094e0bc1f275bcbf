"""The console as a whole: its blueprint with all of its pages."""

from api.console.blueprint import console
from api.console.guard import NAME
from api.console.pages import (
    audit,
    batches,
    calls,
    dead_letters,
    docs,
    files,
    job,
    jobs,
    keys,
    models,
    overview,
    playground,
    sessions,
    sign_in,
    usage,
)

PAGES = (
    *(sign_in, overview, jobs, job, models, playground, batches, files, dead_letters),
    *(usage, keys, sessions, audit),
    *(docs, calls),
)
"""Modules that register pages, once they are imported."""

__all__ = ["NAME", "PAGES", "console"]
