"""Runs the `truthgpt` command as `python -m cli`."""

from cli.main import main

if __name__ == "__main__":
    main(prog_name="truthgpt")
