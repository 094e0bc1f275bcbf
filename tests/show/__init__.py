"""`python -m tests.show`: the whole stack under load, and what can be seen of it."""
