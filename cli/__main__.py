"""`python -m cli` is `truthgpt`."""

from cli.main import main

if __name__ == "__main__":
    main(prog_name="truthgpt")
