"""What one tenant can do to the others: each row is an attack, measured on the others' side."""
