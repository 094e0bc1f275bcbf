"""Text generation with iteration-level batching: sequences join and leave between any two tokens.

One step: `scheduler` plans, a runner (`runner` packed, or `static` for models that cannot be packed)
turns the plan into logits, `sampler` picks tokens, `detokenizer` turns them into text, and only then
does anything advance.
"""
