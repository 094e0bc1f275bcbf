"""Forward passes of common layers in fewer operations than transformers runs for them, float32 on a CPU.

In a step of few tokens an operation costs more than what it computes. Which modules do what these passes do
is found out in `fusing`.
"""

from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any

import torch

from workers.engines.packed_attention import HOOK, AttentionCall, PackedAttention
from workers.engines.text_generation.forward.packed.few_rows import LEAST, MOST, FewRows

Angles = tuple[torch.Tensor, torch.Tensor]
Rows = Callable[[torch.Tensor], torch.Tensor]


class Fused:
    """A forward pass of a module that stands in the place of its own."""


class Norm(Fused):
    """[..., K] to [..., K], each row over the root of its mean square."""

    def __init__(self, module: Any) -> None:
        self._weight: torch.Tensor = module.weight
        self._eps = torch.tensor(float(module.variance_epsilon))
        self._share = 1 / self._weight.numel()

    def __call__(self, hidden_states: torch.Tensor) -> torch.Tensor:
        length: torch.Tensor = torch.linalg.vector_norm(hidden_states, dim=-1, keepdim=True)
        factor = torch.addcmul(self._eps, length, length, value=self._share).rsqrt_()
        return (hidden_states * factor).mul_(self._weight)


class Gated(Fused):
    """[..., K] to [..., K]: few rows stay on the right of their weights from first to last."""

    def __init__(self, module: Any) -> None:
        self._gate, self._up = FewRows(module.gate_proj), FewRows(module.up_proj)
        self._down, self._act = FewRows(module.down_proj), module.act_fn

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        gate, up, down = self._gate, self._up, self._down
        count = x.numel() // x.shape[-1]
        if not LEAST <= count <= MOST or gate.apart or up.apart or down.apart:
            return down.run(self._act(gate.run(x)).mul_(up.run(x)))
        columns = x.reshape(count, -1).t()
        inner = self._act(gate.turned(columns)).mul_(up.turned(columns))
        return down.turned(inner).t().contiguous().reshape(x.shape)


class Attention(Fused):
    """[1, T, K] to [1, T, K], or to fewer rows where the hook attends for those alone."""

    def __init__(self, module: Any, call: AttentionCall) -> None:
        """`call` is what the module asks of its hook, but for query, key and value."""
        self._module = module
        none = torch.empty(0)
        self._call = call._replace(query=none, key=none, value=none)
        self._layers = [FewRows(each) for each in (module.q_proj, module.k_proj, module.v_proj)]
        self._out = FewRows(module.o_proj)
        self._size: int = module.head_dim
        self._heads = [len(layer.weight) // self._size for layer in self._layers]
        self._norms: tuple[Any, Any] | None = None
        if hasattr(module, "q_norm"):
            self._norms = module.q_norm, module.k_norm

    def fits(self, position_embeddings: Angles, attention_mask: torch.Tensor | None) -> bool:
        """Whether positions turn all of a head, and the mask is left to the hook."""
        return position_embeddings[0].shape[::2] == (1, self._size) and attention_mask is None

    def __call__(
        self, hidden_states: torch.Tensor, position_embeddings: Angles, **options: Any
    ) -> tuple[torch.Tensor, None]:
        if self.fits(position_embeddings, options.get("attention_mask")):
            return self.attend(hidden_states, position_embeddings), None
        found: tuple[torch.Tensor, None] = type(self._module).forward(
            self._module, hidden_states, position_embeddings=position_embeddings, **options
        )
        return found

    def attend(self, rows: torch.Tensor, angles: Angles) -> torch.Tensor:
        """The pass where it `fits`."""
        query, key, value = self._projected(rows)
        if self._norms is not None:
            query, key = self._norms[0](query), self._norms[1](key)
        cos, sin = (each[:, :, None] for each in angles)
        if rows.shape[1] > MOST:
            query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
        else:
            both = _rotated(torch.cat((query, key), dim=2), cos, sin)
            query, key = torch.split_with_sizes(both, self._heads[:2], dim=2)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        hook: PackedAttention = getattr(self._module, HOOK)
        attended = hook.attend(self._call._replace(query=query, key=key, value=value))
        return self._out.run(attended.flatten(2))

    def _projected(self, rows: torch.Tensor) -> Items[torch.Tensor]:
        """[1, T, K] to queries, keys and values [1, T, heads, d], which are not rotated."""
        count = rows.shape[1]
        if LEAST <= count <= MOST and not any(layer.apart for layer in self._layers):
            columns = rows[0].t()
            made = torch.cat([layer.turned(columns).t() for layer in self._layers], dim=1)
            return torch.split_with_sizes(made.view(1, count, -1, self._size), self._heads, dim=2)
        return [layer.run(rows).view(1, count, -1, self._size) for layer in self._layers]


class Layer(Fused):
    """[1, T, K] to [1, T, K]: attention and a feed-forward part, each behind a norm, added to its input."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._attention: Attention = module.self_attn.forward
        self._before: Rows = module.input_layernorm.forward
        self._between: Rows = module.post_attention_layernorm.forward
        self._gated: Rows = module.mlp.forward

    def __call__(
        self, hidden_states: torch.Tensor, position_embeddings: Angles, **options: Any
    ) -> torch.Tensor:
        if not self._attention.fits(position_embeddings, options.get("attention_mask")):
            found: torch.Tensor = type(self._module).forward(
                self._module, hidden_states, position_embeddings=position_embeddings, **options
            )
            return found
        attended = self._attention.attend(self._before(hidden_states), position_embeddings)
        rows = hidden_states + attended
        return self._gated(self._between(rows)).add_(rows)


def _rotated(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """[1, T, heads, d], halves turned by angles whose `cos` and `sin` are [1, T, 1, d]."""
    first, second = heads.chunk(2, dim=-1)
    sin_first, sin_second = sin.chunk(2, dim=-1)
    found = heads * cos
    found_first, found_second = found.chunk(2, dim=-1)
    found_first.addcmul_(second, sin_first, value=-1)
    found_second.addcmul_(first, sin_second)
    return found
