import pytest
import torch

from shared.domain.errors import ConfigError
from workers.engines.text_generation.forward.kv_cache import KvCache, LayerShape, slots_that_fit

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
