"""The job protocol as a discrete-event model, its costs measured here. How: docs/scaling.md."""
