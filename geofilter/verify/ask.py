"""Ask a causal language model questions and keep its answers.

Sampling at temperature 1 from the whole distribution, as the protocol says, whatever sampling
settings the model ships with. A batch has its own seed, so that what is asked after an
interruption is answered as if there had been none. Questions are rendered as training rows
are (see `template`), so that what is asked is what was trained.
"""

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from geofilter.data.conversation import Conversation
from geofilter.data.problems import Unscorable
from geofilter.data.samples import Turn
from geofilter.data.template import ChatTemplate, PlainTemplate, Template
from geofilter.errors import ModelError
from geofilter.support.display import quote
from geofilter.verify.plan import Sampling


class Put(NamedTuple):
    """One question as it is put to the model."""

    question: str  # the id in the questions file
    text: str
    system: str | None


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


def check(network: Any, tokenizer: Any, asked: Sequence[Put]) -> None:
    """Raise `ModelError` for a question that `answers` could not put, before anything costly."""
    for one in asked:
        _room(network, len(prompt_ids(tokenizer, one)))


def prompt_ids(tokenizer: Any, asked: Put) -> list[int]:
    """Tokens of a question, up to where the assistant begins to speak.

    Where the chat template takes no system turn, its text comes before the question, as
    in training rows.
    """
    turns = [Turn("user", asked.text)]
    if asked.system is not None:
        turns.insert(0, Turn("system", asked.system))
    try:
        return opening_ids(tokenizer, turns)
    except Unscorable as error:
        raise ModelError(
            f"question {quote(asked.question)} cannot be put: {error.problem.reason}"
        ) from error


def opening_ids(tokenizer: Any, turns: Sequence[Turn]) -> list[int]:
    """Tokens of `turns`, up to where the assistant begins to speak. Raises `Unscorable`."""
    template = _template(tokenizer)
    chat = Conversation(template, turns, None)
    text = template.render(chat.turns, None, ask=True).text
    if tokenizer.chat_template is None:
        # The blank before an answer is a part of the answer's first token.
        text = text.removesuffix(" ")
    ids: list[int] = tokenizer(text, add_special_tokens=template.adds_special_tokens).input_ids
    return ids


def _seed_of(seed: int, batch: int) -> int:
    """Independent streams for the batches of all seeds."""
    digest = hashlib.blake2b(f"{seed} {batch}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def _template(tokenizer: Any) -> Template:
    if tokenizer.chat_template is None:
        return PlainTemplate(tokenizer.eos_token or "")
    return ChatTemplate(tokenizer)


def _end_ids(network: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: those of the tokenizer, the model and the template.

    What a template writes after an answer is what training teaches to end it with, and
    some models state another token only.
    """
    stated = network.generation_config.eos_token_id
    ends = stated if isinstance(stated, list) else [stated]
    found = {end for end in [*ends, tokenizer.eos_token_id] if end is not None}
    chat = Conversation(_template(tokenizer), (Turn("user", "so"), Turn("assistant", "so")), None)
    own = chat.own(1)
    after = (
        tokenizer(chat.full.text[own[-1].end :], add_special_tokens=False).input_ids if own else []
    )
    return sorted(found | set(after[:1]).intersection(tokenizer.added_tokens_decoder))


@torch.no_grad()
def _answer(
    network: Any, tokenizer: Any, prompts: list[list[int]], sampling: Sampling, end_ids: list[int]
) -> list[str]:
    from transformers import GenerationConfig

    longest = max(map(len, prompts))
    # Any token does where the attention mask hides it.
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (end_ids or [0])[0]
    # On the left, so that every answer begins at the same place.
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=network.device)
    mask = torch.tensor(
        [[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=network.device
    )
    settings: Any = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=sampling.temperature > 0,
        temperature=sampling.temperature or None,
        top_k=0,
        top_p=1.0,
        max_new_tokens=min(sampling.max_new_tokens, _room(network, longest)),
        pad_token_id=pad,
        eos_token_id=end_ids or None,
    )
    with _without_own_settings(network):
        found = network.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    new = found[:, longest:].tolist()
    texts: list[str] = tokenizer.batch_decode([_up_to(row, end_ids) for row in new])
    return [text.strip() for text in texts]


@contextlib.contextmanager
def _without_own_settings(network: Any) -> Iterator[None]:
    """Set aside what a model's authors would have sampling do, such as a repetition penalty.

    `generate` takes from there whatever its caller leaves at None, which for many settings is
    the only way to say "off".
    """
    from transformers import GenerationConfig

    # That of an adapter is looked up in the model around which it lies.
    holder = network.get_base_model() if hasattr(network, "get_base_model") else network
    own = holder.generation_config
    holder.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        holder.generation_config = own


def _room(network: Any, tokens: int) -> int:
    """Tokens that an answer to a question of so many may have; at least one."""
    limit = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and tokens >= limit:
        raise ModelError(
            f"a question of {tokens} tokens leaves no room for an answer in a context of {limit}"
        )
    return sys.maxsize if limit is None else int(limit) - tokens


def _up_to(tokens: list[int], end_ids: list[int]) -> list[int]:
    for place, token in enumerate(tokens):
        if token in end_ids:
            return tokens[:place]
    return tokens
