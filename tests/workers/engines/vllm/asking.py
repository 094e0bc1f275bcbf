"""What tests ask the stand-in for vLLM, and what its model says."""

from typing import Any

from tests import fake_vllm
from tests.tiny_models import byte_level_tokenizer
from workers.engines.base import Work

PROMPTS = ["The quick brown fox", "a", "naïve café 🎉", "def main(argv)"]


LONG = "The quick brown fox jumps over the lazy dog. " * 2
"""More than a block of vLLM's prefix cache."""


def work(job_id: str, prompt: Any = PROMPTS[0], **params: Any) -> Work:
    return Work(job_id, prompt, {"max_new_tokens": 12} | params, seed=7)


def expected(prompt: str, length: int) -> str:
    """What the stand-in's model says, up to its end token."""
    tokenizer = byte_level_tokenizer()
    ids = tokenizer(prompt)["input_ids"]
    made: list[int] = []
    while len(made) < length:
        token = fake_vllm.next_token([*ids, *made])
        if token == tokenizer.eos_token_id:
            break
        made.append(token)
    text: str = tokenizer.decode(made, skip_special_tokens=True)
    return text.rstrip("\ufffd")
