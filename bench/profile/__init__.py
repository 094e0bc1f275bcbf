"""Where a job's microseconds go: `python -m bench.profile`, or `make profile`."""
