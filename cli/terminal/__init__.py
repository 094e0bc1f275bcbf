"""What the terminal shows: frames, lines, sizes, durations, the live view."""
