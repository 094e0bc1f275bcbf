"""Replicate's dialect: predictions are jobs, models those of the catalogue. No state is kept here."""
