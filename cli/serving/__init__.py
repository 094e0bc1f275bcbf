"""Starts, watches and probes the processes of a server."""
