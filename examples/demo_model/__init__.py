"""How models/demo-llama was trained: `python -m examples.demo_model` does it again."""
