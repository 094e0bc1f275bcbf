"""Other people's clients, really run against a real server."""
