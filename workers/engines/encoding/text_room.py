"""How long a text may be for an encoder."""

from typing import Any

from workers.engines.loading.text_lengths import PositionTable, rotary_room


def longest_text(
    allowed: int,
    own: int | None,
    tokenizer: Any,
    config: Any,
    table: PositionTable | None,
    *,
    library_cuts: bool,
) -> int:
    """Tokens of one text, special ones included: what nobody would cut and the model has room for.

    `allowed` is the catalogue's bound, `own` what the directory sets. `library_cuts`: without `own`
    sentence-transformers cuts at the trained length, even where a stretched context is longer.
    """
    trained = getattr(config, "max_position_embeddings", None) or 0
    bounds = [
        allowed,
        own or tokenizer.model_max_length,
        table.room if table else rotary_room(config),
    ]
    if library_cuts and not own and trained > 0:
        bounds.append(trained)
    return int(min(bound for bound in bounds if bound))
