"""Saves the model, and lets what was saved continue some prompts."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from examples.demo_model.corpus import Corpus
from examples.demo_model.model import EOS_ID
from examples.demo_model.settings import MAX_POSITIONS

CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
PROMPTS = ("The function returns", "A class definition", "An exception is raised when")
TEMPERATURE = 0.7
TOP_P = 0.95
NEW_TOKENS = 80


@dataclass(frozen=True)
class Sample:
    """A continuation of one prompt by the saved model."""

    how: str
    text: str  # prompt and continuation
    copied_chars: int  # longest stretch of the continuation that is in the training text


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the weights in bfloat16, the configurations and the tokenizer."""
    model.generation_config = GenerationConfig(
        bos_token_id=EOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=EOS_ID,
        do_sample=True,
        temperature=TEMPERATURE,
        top_p=TOP_P,
    )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.model_max_length = MAX_POSITIONS
    tokenizer.chat_template = CHAT_TEMPLATE
    model.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(out)


def longest_copy(text: str, source: str) -> int:
    """Length in characters of the longest stretch of `text` that occurs in `source`."""
    longest = 0
    for start in range(len(text)):
        while start + longest < len(text) and text[start : start + longest + 1] in source:
            longest += 1
    return longest


def draw_samples(
    out: Path, corpus: Corpus, seed: int, new_tokens: int = NEW_TOKENS
) -> list[Sample]:
    """Reload the directory as a user would, in bfloat16, and continue each of `PROMPTS`."""
    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        out, local_files_only=True, dtype=torch.bfloat16
    ).eval()
    source = "\n\n".join(document.text for document in corpus.train)
    samples: list[Sample] = []
    for prompt, greedy in [*((prompt, False) for prompt in PROMPTS), (PROMPTS[0], True)]:
        inputs = tokenizer(prompt, return_tensors="pt")
        how = "greedy" if greedy else f"temperature {TEMPERATURE}, top-p {TOP_P}, seed {seed}"
        options = {"do_sample": False, "temperature": None, "top_p": None} if greedy else {}
        torch.manual_seed(seed)
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=new_tokens,
            **options,
        )
        text: str = tokenizer.decode(output[0], skip_special_tokens=True)
        samples.append(Sample(how, text, longest_copy(text[len(prompt) :], source)))
    return samples
