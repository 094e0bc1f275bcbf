"""The process that works on batches: it reads lines, makes jobs of them, gathers what these bring."""
