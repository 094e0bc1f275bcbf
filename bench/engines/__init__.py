"""The engines beside what they would be without this project. How: docs/benchmarks.md."""
