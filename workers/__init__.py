"""The worker side: Celery workers that claim jobs, and the engine hosts that run them."""
