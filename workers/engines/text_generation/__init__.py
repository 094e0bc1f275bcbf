"""Text generation with iteration-level batching: sequences join and leave between any two tokens.

One step: `scheduler` plans, a runner (`runner` packed, or `static` for models that cannot be packed)
turns the plan into logits, `sampler` picks tokens, `turns` works out what they mean, and only then does
anything advance.

Beside it: `workers.engines.texts` turns jobs into sequences and tokens into text; `packing` finds out at
load if a model can be packed, `attention` and `kv_cache` are how, `memory` how much fits; `prefixes` knows
which slots hold which beginnings; `ladder` gives decode steps fixed shapes on CUDA; `cuts` and `scores`
belong to the sampler, and `transfer` is the way to the device and back.
"""
