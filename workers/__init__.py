"""The worker side: Celery workers that pull batches, and the engine hosts that run them."""
