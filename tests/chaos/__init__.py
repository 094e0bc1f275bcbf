"""Real processes, real Redis, real faults; a checker judges what clients saw. See docs/reliability.md."""
