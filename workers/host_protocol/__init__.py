"""What a worker and its engine host share: messages, the socket that carries them, a page of progress.

Both sides, `workers.engine_host` and `workers.host`, import this package and not each other: a worker never
loads an engine's libraries, and a host knows nothing of queues.
"""
