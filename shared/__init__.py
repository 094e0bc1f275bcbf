"""What both sides import: the job's states, its store, its wire schemas. No Flask and no torch."""
