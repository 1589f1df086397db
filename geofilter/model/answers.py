"""A causal language model's answers to prompts, and a network in training read undisturbed.

Sampling is from the whole distribution, whatever sampling settings the model ships with.
Questions are rendered as training rows are (see `template`), so that what is asked is what
was trained.
"""

import contextlib
import random
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from geofilter.data.conversation import Conversation
from geofilter.data.samples import Turn
from geofilter.data.template import ChatTemplate, PlainTemplate, Template
from geofilter.errors import ModelError


class Drawn(NamedTuple):
    """An answer, and whether it ended by itself: another was cut off for its length.

    `tokens`: those that the text is of.
    """

    text: str
    ended: bool
    tokens: Sequence[int] = ()


def opening_ids(tokenizer: Any, turns: Sequence[Turn]) -> list[int]:
    """Tokens of `turns`, up to where the assistant begins to speak. Raises `Unscorable`."""
    template = template_of(tokenizer)
    chat = Conversation(template, turns, None)
    text = template.render(chat.turns, None, ask=True).text
    if tokenizer.chat_template is None:
        # The blank before an answer is a part of the answer's first token.
        text = text.removesuffix(" ")
    ids: list[int] = tokenizer(text, add_special_tokens=template.adds_special_tokens).input_ids
    return ids


def template_of(tokenizer: Any) -> Template:
    """The tokenizer's chat template; the plain one where it has none."""
    if tokenizer.chat_template is None:
        return PlainTemplate(tokenizer.eos_token or "")
    return ChatTemplate(tokenizer)


def end_ids(network: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: those of the tokenizer, the model and the template.

    What a template writes after an answer is what training teaches to end it with, and
    some models state another token only.
    """
    stated = network.generation_config.eos_token_id
    ends = stated if isinstance(stated, list) else [stated]
    found = {end for end in [*ends, tokenizer.eos_token_id] if end is not None}
    chat = Conversation(template_of(tokenizer), (Turn("user", "so"), Turn("assistant", "so")), None)
    own = chat.own(1)
    after = (
        tokenizer(chat.full.text[own[-1].end :], add_special_tokens=False).input_ids if own else []
    )
    return sorted(found | set(after[:1]).intersection(tokenizer.added_tokens_decoder))


@torch.no_grad()
def draw(
    network: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    temperature: float,
    max_new_tokens: int,
    ends: Sequence[int],
) -> list[Drawn]:
    """The answers to a batch of prompts, each up to the first of the tokens `ends`.

    Drawn from torch's own random numbers at `temperature`; at 0 each token is the likeliest.
    Raises `ModelError` where a prompt leaves no room in the model's context.
    """
    from transformers import GenerationConfig

    longest = max(map(len, prompts))
    # Any token does where the attention mask hides it.
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else [*ends, 0][0]
    # On the left, so that every answer begins at the same place.
    ids = torch.tensor(
        [[pad] * (longest - len(p)) + list(p) for p in prompts], device=network.device
    )
    mask = torch.tensor(
        [[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=network.device
    )
    settings: Any = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=temperature > 0,
        temperature=temperature or None,
        top_k=0,
        top_p=1.0,
        max_new_tokens=min(max_new_tokens, room(network, longest)),
        pad_token_id=pad,
        eos_token_id=list(ends) or None,
    )
    with _without_own_settings(network):
        found = network.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    new = found[:, longest:].tolist()
    tokens = [_up_to(row, ends) for row in new]
    texts: list[str] = tokenizer.batch_decode(tokens)
    return [
        Drawn(text.strip(), not set(ends).isdisjoint(row), of_it)
        for text, row, of_it in zip(texts, new, tokens, strict=True)
    ]


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


def room(network: Any, tokens: int) -> int:
    """Tokens that an answer to a question of so many may have; at least one."""
    limit = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and tokens >= limit:
        raise ModelError(
            f"a question of {tokens} tokens leaves no room for an answer in a context of {limit}"
        )
    return sys.maxsize if limit is None else int(limit) - tokens


def _up_to(tokens: list[int], ends: Sequence[int]) -> list[int]:
    for place, token in enumerate(tokens):
        if token in ends:
            return tokens[:place]
    return tokens


@contextlib.contextmanager
def undisturbed(network: Any) -> Iterator[None]:
    """Evaluate `network` and leave everything that training goes on from as it was."""
    modes = [(module, module.training) for module in network.modules()]
    state, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        network.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
            random.setstate(state)
            np.random.set_state(numbers)
