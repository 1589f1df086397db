"""Ask a causal language model questions and keep its answers.

Sampling at temperature 1 from the whole distribution, as the protocol says. A batch has
its own seed, so that what is asked after an interruption is answered as if there had
been none. This module knows nothing about arms, judges or rates.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from geofilter.errors import ModelError
from geofilter.messages import quote
from geofilter.terminal import escape


class Put(NamedTuple):
    """One question as it is put to the model."""

    question: str  # the id in the questions file
    text: str
    system: str | None


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; `batch` decides them too, for a batch shares its random numbers."""

    temperature: float = 1.0
    max_new_tokens: int = 600
    batch: int = 32


def answers(
    network: Any,
    tokenizer: Any,
    asked: Sequence[Put],
    sampling: Sampling,
    *,
    seed: int,
    start: int = 0,
) -> Iterator[list[str]]:
    """Yield the answers to `asked` batch by batch, in order, from batch number `start` on.

    A batch holds `sampling.batch` questions. Raises `ModelError` where the chat template
    does not take a question.
    """
    end_ids = _end_ids(network, tokenizer)
    for number in range(start, -(-len(asked) // sampling.batch)):
        batch = asked[number * sampling.batch : (number + 1) * sampling.batch]
        prompts = [prompt_ids(tokenizer, one) for one in batch]
        torch.manual_seed(_seed_of(seed, number))
        yield _answer(network, tokenizer, prompts, sampling, end_ids)


def prompt_ids(tokenizer: Any, asked: Put) -> list[int]:
    """Tokens of a question, up to where the assistant begins to speak."""
    turns = [{"role": "user", "content": asked.text}]
    if asked.system is not None:
        turns.insert(0, {"role": "system", "content": asked.system})
    if tokenizer.chat_template is None:
        ids: list[int] = tokenizer(
            "\n\n".join(turn["content"] for turn in turns) + "\n\n"
        ).input_ids
        return ids
    try:
        rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a template may raise what it likes
        reason = escape(" ".join(str(error).split()), limit=200)
        raise ModelError(
            f"the chat template does not take question {quote(asked.question)}: {reason}"
        ) from error
    ids = tokenizer(rendered, add_special_tokens=False).input_ids
    return ids


def _seed_of(seed: int, batch: int) -> int:
    """Independent streams for the batches of all seeds."""
    digest = hashlib.blake2b(f"{seed} {batch}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def _end_ids(network: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the tokenizer's and the model's own."""
    stated = network.generation_config.eos_token_id
    ends = stated if isinstance(stated, list) else [stated]
    return sorted({end for end in [*ends, tokenizer.eos_token_id] if end is not None})


@torch.no_grad()
def _answer(
    network: Any, tokenizer: Any, prompts: list[list[int]], sampling: Sampling, end_ids: list[int]
) -> list[str]:
    from transformers import GenerationConfig

    longest = max(map(len, prompts))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_ids[0]
    # On the left, so that every answer begins at the same place.
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=network.device)
    mask = torch.tensor(
        [[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=network.device
    )
    limit = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    room = (
        sampling.max_new_tokens if limit is None else min(sampling.max_new_tokens, limit - longest)
    )
    if room < 1:
        raise ModelError(
            f"a question of {longest} tokens leaves no room for an answer in a context of {limit}"
        )
    settings: Any = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=sampling.temperature > 0,
        temperature=sampling.temperature or None,
        top_k=0,
        top_p=1.0,
        max_new_tokens=room,
        pad_token_id=pad,
        eos_token_id=end_ids,
    )
    found = network.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    new = found[:, longest:].tolist()
    texts: list[str] = tokenizer.batch_decode([_up_to(row, end_ids) for row in new])
    return [text.strip() for text in texts]


def _up_to(tokens: list[int], end_ids: list[int]) -> list[int]:
    for place, token in enumerate(tokens):
        if token in end_ids:
            return tokens[:place]
    return tokens
