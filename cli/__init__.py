"""The `truthgpt` command: a whole server with `up`, and the jobs' commands over the HTTP API."""
