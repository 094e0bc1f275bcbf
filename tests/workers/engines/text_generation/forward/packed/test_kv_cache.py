import pytest
import torch

from shared.domain.errors import ConfigError
from workers.engines.text_generation.forward.packed.kv_cache import (
    KvCache,
    LayerShape,
    slots_that_fit,
)
from workers.engines.text_generation.forward.packed.reach import Reach

CPU = torch.device("cpu")
LAYERS = [LayerShape(heads=2, key_width=8, value_width=4)] * 3
SLOT_BYTES = 3 * 2 * (8 + 4) * 4 * 100


def fit(free: int, wanted: int = 16, **options: int) -> int:
    return slots_that_fit(LAYERS, wanted, 100, torch.float32, free, CPU, **options)


def test_slots_are_as_many_as_wanted_or_as_memory_allows() -> None:
    assert fit(SLOT_BYTES * 1000) == 16
    assert fit(int(SLOT_BYTES * 5 / 0.4) + 1) == 5


def test_what_a_step_needs_and_a_spare_slot_stay_out_of_it() -> None:
    free = int(SLOT_BYTES * 5 / 0.4) + 1

    assert fit(free + 1000, reserve=1000) == 5
    assert fit(free, reserve=int(SLOT_BYTES / 0.4)) == 4
    assert fit(free, spare=1) == 4
    with pytest.raises(ConfigError):
        fit(free, reserve=2 * free)
    with pytest.raises(ConfigError):
        fit(int(SLOT_BYTES / 0.4) + 1, spare=1)


def test_no_room_for_a_single_sequence_is_a_matter_of_configuration() -> None:
    with pytest.raises(ConfigError, match=r"100 tokens needs .* lower limits"):
        fit(SLOT_BYTES)


def test_a_beginning_is_copied_in_all_layers_and_no_further() -> None:
    cache = KvCache(LAYERS, slots=3, length=5, dtype=torch.float32, device=CPU)
    for tensor in (*cache.keys, *cache.values):
        tensor[0] = 1.0
        tensor[2] = 2.0

    cache.copy(0, 2, length=3)

    for tensor in (*cache.keys, *cache.values):
        assert tensor[2, :, :3].eq(1).all()
        assert tensor[2, :, 3:].eq(2).all()
        assert tensor[1].eq(0).all()


def test_scrubbing_zeroes_one_slot_in_all_layers() -> None:
    cache = KvCache(LAYERS, slots=3, length=5, dtype=torch.float32, device=CPU)
    for tensor in (*cache.keys, *cache.values):
        tensor.fill_(float("nan"))

    cache.scrub(1)

    for tensor in (*cache.keys, *cache.values):
        assert tensor[1].eq(0).all()
        assert tensor[[0, 2]].isnan().all()


WINDOWED = [
    LayerShape(2, 8, 4),
    LayerShape(2, 8, 4, Reach(8)),
    LayerShape(1, 8, 4, Reach(20, True)),
]


def windowed(length: int = 100) -> KvCache:
    """Tokens 0 to 69 in slot 0, each the number of itself."""
    cache = KvCache(WINDOWED, slots=2, length=length, dtype=torch.float32, device=CPU, step=20)
    for layer, places in enumerate(cache.places):
        for token in range(70):
            cache.keys[layer][0, :, token % places] = token
            cache.values[layer][0, :, token % places] = token
    return cache


def test_a_layer_with_a_window_keeps_the_window_a_step_and_some_to_go_back() -> None:
    cache = windowed()

    assert cache.places == [100, 8 + 20 + 8, 20 + 20 + 20]
    assert cache.rewind == 28
    assert windowed(30).places == [30, 30, 30]
    assert windowed(30).rewind == 30
    kept = sum(
        p * s.bytes_per_token(torch.float32) for p, s in zip(cache.places, WINDOWED, strict=True)
    )
    assert (
        slots_that_fit(WINDOWED, 9, 100, torch.float32, int(kept * 3 / 0.4) + 1, CPU, step=20) == 3
    )


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_what_lies_across_the_end_of_a_ring_is_read_in_order(layer: int) -> None:
    cache = windowed()

    for first, end in ((62, 70), (51, 70), (69, 70)):
        keys, values = cache.past(layer, 0, first, end)

        assert keys[0, 0, :, 0].tolist() == values[0, 0, :, 0].tolist() == list(range(first, end))


def test_rings_are_copied_and_scrubbed_by_the_numbers_of_tokens() -> None:
    cache = windowed()
    cache.copy(0, 1, length=64)

    assert cache.past(1, 1, 56, 64)[0][0, 0, :, 0].tolist() == list(range(56, 64))
    assert cache.keys[0][1, 0, 64:].eq(0).all()

    cache.scrub(0, 68, 75)

    for layer in range(3):
        assert cache.past(layer, 0, 60, 75)[0][0, 0, :, 0].tolist() == [*range(60, 68), *[0] * 7]
    cache.scrub(0)
    for tensor in (*cache.keys, *cache.values):
        assert tensor[0].eq(0).all()
        assert tensor[1].ne(0).any()
