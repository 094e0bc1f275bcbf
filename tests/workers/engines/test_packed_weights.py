"""Products in oneDNN's layout: the same rows in any number of them, and given back with the runner."""

import pytest
import torch
from torch import nn

from workers.engines import packed_weights
from workers.engines.packed_weights import BlockedProduct, Product


@pytest.mark.parametrize("sizes", [(512, 1376), (96, 64), (400, 2048)], ids=str)
def test_a_row_is_the_same_in_any_number_of_rows(sizes: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer, rows = nn.Linear(*reversed(sizes)), torch.randn(70, sizes[1])
    with torch.inference_mode():
        product = Product(layer.weight, layer.bias)
        many = product(rows)
        torch.testing.assert_close(many, layer(rows))
        for count in (1, 2, 5, 9, 15, 16, 31, 64):
            assert torch.equal(product(rows[None, :count])[0], many[:count])
        assert product.exact
        assert torch.equal(product.weight, layer.weight)


def test_weights_are_packed_in_place_of_a_layers_own_and_given_back() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(8, 4)
            self.middle = nn.Linear(4, 4)
            self.head = nn.Linear(4, 8, bias=False)
            self.head.weight = self.embedding.weight

    model = Tied()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert packed_weights.copied_bytes(model) == 8 * 4 * 4
    with torch.inference_mode():
        assert packed_weights.attach(model)
        assert not model.middle.weight.numel()
        assert model.head.weight is model.embedding.weight
        assert torch.equal(model.embedding.weight, before["embedding.weight"])
        packed_weights.detach(model)

    assert not any("forward" in vars(module) for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_model_with_other_linear_layers_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, dtype=torch.bfloat16))
    plain = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 6))
    with torch.inference_mode():
        assert not packed_weights.attach(mixed)
        monkeypatch.setattr(Product, "exact", property(lambda self: self.weight.shape[0] == 4))
        assert not packed_weights.attach(plain)

    for model in (mixed, plain):
        assert not any("forward" in vars(layer) for layer in model)
        assert all(layer.weight.numel() for layer in model)


HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("sizes", [(512, 1408), (1408, 512), (100, 77)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_a_row_of_half_precision_is_the_same_in_any_number_and_at_any_place(
    sizes: tuple[int, int], dtype: torch.dtype, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(sizes[1], sizes[0], bias=bias, dtype=dtype)
    rows = torch.randn(300, sizes[1]).to(dtype)
    model = nn.Sequential(layer)
    with torch.inference_mode():
        near = layer(rows)
        if not packed_weights.attach_half(model, dtype):
            pytest.skip(f"this CPU has no products of {dtype} over packed weights")
        many = layer(rows)
        torch.testing.assert_close(many, near)
        for count in (1, 2, 5, 15, 16, 31, 63, 64, 65, 100, 128, 129, 200, 257):
            assert torch.equal(layer(rows[:count]), many[:count])
            assert torch.equal(layer(rows[None, 300 - count :])[0], many[300 - count :])


def test_blocks_of_rows_are_the_same_in_any_number_on_every_cpu() -> None:
    """What a CPU with tiles runs runs on others as well, if more slowly."""
    torch.manual_seed(0)
    layer, rows = nn.Linear(96, 130), torch.randn(300, 96)
    with torch.inference_mode():
        product = BlockedProduct(layer.weight, layer.bias)
        many = product(rows)
        torch.testing.assert_close(many, layer(rows))
        for count in (1, 63, 64, 65, 191, 256, 299):
            assert torch.equal(product(rows[:count]), many[:count])


def test_products_that_cannot_be_packed_are_told_and_stay() -> None:
    class Expert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2, 4, 4, dtype=torch.bfloat16))

    mixed = nn.Sequential(nn.Linear(4, 4, dtype=torch.bfloat16), Expert())
    other = nn.Sequential(nn.Linear(4, 4, dtype=torch.bfloat16), nn.Linear(4, 4))
    with torch.inference_mode():
        assert not packed_weights.attach_half(mixed, torch.bfloat16)
        assert not packed_weights.attach_half(other, torch.bfloat16)
        packed_weights.detach(mixed)

    assert "forward" not in vars(other[1])
    assert not any("forward" in vars(module) for module in mixed.modules())
