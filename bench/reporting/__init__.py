"""Turns measured figures into tables, plots and files."""
