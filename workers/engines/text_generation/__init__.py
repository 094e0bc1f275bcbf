"""Text generation with iteration-level batching: sequences join and leave between any two tokens.

One step: `scheduler` plans, a runner of `forward` turns the plan into logits (packed, stacked, or static),
`sampler` picks tokens, `turns` works out what they mean, and only then does anything advance.

Beside it: `workers.engines.texts` turns jobs into sequences and tokens into text; `way` finds out at load how
a model runs; `prefixes` knows which slots hold which beginnings; `cuts` and `scores` belong to the sampler,
and `transfer` is the way to the device and back.
"""
