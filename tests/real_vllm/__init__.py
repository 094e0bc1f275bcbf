"""What only vLLM itself can show, in an environment of its own: `make test-vllm`."""
