"""Refuses a model for which transformers reports made-up weights or weights that nobody took."""

import re
from pathlib import Path
from typing import Any

from shared.domain.errors import ConfigError
from workers.engines.loading.fit import headers

UNUSED = ("pooler.",)
"""Weights that a checkpoint may lack, since no engine looks at what comes out of them."""
COMPUTED = re.compile(
    r"(^|[._])(inv_freq|cos_cached|sin_cached|masked_bias|causal_mask|position_ids|token_type_ids"
    r"|num_batches_tracked|_float_tensor)$|embed_positions\.weights$|(^|\.)logit_(scale|bias)$"
)
"""Buffers that older versions wrote down and newer ones compute, and numbers to compare with images."""
MASK = re.compile(r"(attn|attention)\.bias$")
"""Called a bias, and of GPT-2's kin a mask if it is a matrix of positions."""
OTHER_PARTS = re.compile(
    r"(^|[._])(vision\w*|visual\w*|image\w*|video\w*|audio\w*|speech\w*|multi_modal\w*|mm_\w+|\w*projector"
    r"|score|v_head|value_head|\w*classif\w*|qa_outputs|cls|lm_head|\w*_head|head|heads|pooler"
    r"|mtp\w*|nextn\w*|eagle\w*|medusa\w*|draft\w*|talker|code2wav|predictions|\w+_predictions"
    r"|vocab_transform|vocab_layer_norm|vocab_projector)(\.|$)"
)
"""Heads of other tasks, other senses, and layers that guess ahead: beside the text's own path."""
QUANTISED = re.compile(
    r"(scale|scales|scale_inv|zero|zeros|zp|zero_point|qweight|qzeros|g_idx|absmax|quant_state\w*"
    r"|quant_map|nested_\w+|codebooks?|codes|indices|packed|amax|lora_\w+|SCB|outlier\w*|lut)"
    r"(\d*|\.\w+|_\w+)?$"
)


def refuse_unread(model: Any, report: dict[str, Any], path: Path, where: str) -> None:
    """Raise `ConfigError` where the model does not compute what the checkpoint says."""
    if others := sorted(report.get("mismatched_keys") or ()):
        name, found, described = others[0]
        raise ConfigError(
            f"{where}: {path} has {len(others)} weights of other shapes than its config.json describes, as"
            f" {name}: {list(found)}, and not {list(described)}; fetch both anew from one place"
        )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(UNUSED))
    if missing:
        raise ConfigError(f"{where}: {path} lacks weights of its model: {_few(missing)}")
    shapes = {
        name: tensor["shape"]
        for _, tensors in headers(path, where)
        for name, tensor in tensors.items()
        if MASK.search(name)
    }
    unread = sorted(
        name
        for name in report["unexpected_keys"]
        if _matters(model, name) and not (MASK.search(name) and len(shapes.get(name, ())) != 1)
    )
    if unread:
        raise ConfigError(
            f"{where}: {path} has weights that {type(model).__name__} as its config.json describes it does"
            f" not read: {_few(unread)}"
        )
    if report.get("error_msgs"):
        raise ConfigError(f"{where}: cannot load {path}: {report['error_msgs'][0]}")


def _matters(model: Any, name: str) -> bool:
    """Whether a weight belongs to what computes the text, so that leaving it out changes it."""
    if COMPUTED.search(name):
        return False
    if QUANTISED.search(name.rsplit(".", 1)[-1]) or ".lora_" in name:
        return True
    owner, rest = _owner(model, name)
    if _guesses_ahead(model, owner, rest):
        return False
    # A module that the model has takes all of its weights; a part that it does not have may be none of it.
    if owner in ("", model.base_model_prefix):
        return OTHER_PARTS.search(rest) is None and not _body(model)
    return True


def _body(model: Any) -> bool:
    """A model without a head: what stands beside it is the head of some task."""
    return model.base_model is model


def _owner(model: Any, name: str) -> tuple[str, str]:
    """The innermost module of the model that a weight's name leads to, and the rest of the name."""
    modules = {module for module, _ in model.named_modules()}
    prefix = model.base_model_prefix
    best = ("", name)
    for candidate in (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")):
        parts = candidate.split(".")
        for count in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:count])
            if module in modules:
                if len(module) > len(best[0]):
                    best = (module, ".".join(parts[count:]))
                break
    return best


def _guesses_ahead(model: Any, owner: str, rest: str) -> bool:
    """Layers behind the last one, where the configuration says that they predict more tokens."""
    config = model.config.get_text_config()
    ahead = getattr(config, "num_nextn_predict_layers", 0) or getattr(config, "num_mtp_layers", 0)
    number = rest.split(".", 1)[0]
    if not (ahead and owner.endswith("layers") and number.isdigit()):
        return False
    layers = int(config.num_hidden_layers)
    return layers <= int(number) < layers + int(ahead)


def _few(names: list[str]) -> str:
    return f"{len(names)}, as {', '.join(names[:3])}"
