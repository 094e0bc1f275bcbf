"""Which models are served: the catalogue, its file, adapters, a model's version."""
