"""Texts that follow a grammar: a matcher a text, masks of the tokens that may come next, and their use."""
