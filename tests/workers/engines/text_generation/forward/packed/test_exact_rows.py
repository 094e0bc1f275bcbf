"""Products in oneDNN's layout: the same rows in any number of them, and given back with the runner."""

import pytest
import torch
from torch import nn

from workers.engines.text_generation.forward.packed import exact_rows
from workers.engines.text_generation.forward.packed.exact_rows import Product


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
    with torch.inference_mode():
        assert exact_rows.attach(model)
        assert not model.middle.weight.numel()
        assert model.head.weight is model.embedding.weight
        assert torch.equal(model.embedding.weight, before["embedding.weight"])
        exact_rows.detach(model)

    assert not any("forward" in vars(module) for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_model_with_other_linear_layers_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, dtype=torch.bfloat16))
    plain = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 6))
    with torch.inference_mode():
        assert not exact_rows.attach(mixed)
        monkeypatch.setattr(Product, "exact", property(lambda self: self.weight.shape[0] == 4))
        assert not exact_rows.attach(plain)

    for model in (mixed, plain):
        assert not any("forward" in vars(layer) for layer in model)
        assert all(layer.weight.numel() for layer in model)
