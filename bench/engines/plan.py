"""How much is measured."""

import msgspec


class Plan(msgspec.Struct, frozen=True):
    """Sizes of the work.

    `requests` ask for at most `longest` tokens; all are answered in every way but one by one, which
    `alone` of them are. `identical` requests of at most `identical_tokens` are compared in a batch and
    alone. Prompts that begin alike want `shared_tokens` each, and those for look-up decoding
    `lookup_tokens`. `clock_tokens` a stream are timed. `texts` are embedded; `demo_jobs` of `demo_tokens`
    go through the whole system. One job of `poisoned` makes its model fail. Texts of models with states have
    prompts of at most `states_prompt` tokens and want `states_tokens`.
    """

    rounds: int
    requests: int
    longest: int
    widths: tuple[int, ...]
    alone: int
    identical: int
    identical_tokens: int
    shared_tokens: int
    lookup_tokens: int
    texts: int
    matmul_seconds: float
    clock_tokens: int
    demo_jobs: int
    demo_tokens: int
    poisoned: int
    states_prompt: int
    states_tokens: int


QUICK = Plan(
    rounds=2,
    requests=16,
    longest=64,
    widths=(8, 16),
    alone=4,
    identical=32,
    identical_tokens=8,
    shared_tokens=16,
    lookup_tokens=64,
    texts=64,
    matmul_seconds=0.3,
    clock_tokens=150,
    demo_jobs=64,
    demo_tokens=48,
    poisoned=200,
    states_prompt=32,
    states_tokens=16,
)
FULL = Plan(
    rounds=2,
    requests=64,
    longest=256,
    widths=(8, 16, 32),
    alone=16,
    identical=64,
    identical_tokens=16,
    shared_tokens=64,
    lookup_tokens=128,
    texts=192,
    matmul_seconds=1.0,
    clock_tokens=300,
    demo_jobs=96,
    demo_tokens=96,
    poisoned=1000,
    states_prompt=128,
    states_tokens=96,
)
