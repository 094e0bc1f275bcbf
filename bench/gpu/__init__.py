"""Text generation on a GPU beside transformers and the memory's bandwidth. How: docs/benchmarks.md."""
