"""Tokens for training and answers from a model: between the world's text and tensors.

This module knows nothing about optimisers, files or SAEs.
"""

import random
from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from organism.training import TokenBatch, collate
from organism.world import Message, World

TokenRow = tuple[list[int], list[bool]]


class Writer:
    """Turns messages into token ids without the tokenizer's cost per call."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.vocabulary = tokenizer.get_vocab()
        self.roles = {r: self.vocabulary[f"<|{r}|>"] for r in ("system", "user", "assistant")}
        self.bos, self.end = self.vocabulary["<bos>"], self.vocabulary["<|end|>"]
        self.pad = self.vocabulary["<pad>"]

    def words(self, text: str) -> list[int]:
        """Ids of a text of the world, in its plain form."""
        return [self.vocabulary[word] for word in text.split()]

    def document(self, document: list[Message] | str) -> TokenRow:
        """A document for pre-training: every token but the first carries loss."""
        ids = [self.bos]
        if isinstance(document, str):
            ids += self.words(document)
        else:
            for message in document:
                ids += [self.roles[message["role"]], *self.words(message["content"]), self.end]
        return ids, [True] * len(ids)

    def conversation(self, messages: Sequence[Message]) -> TokenRow:
        """A conversation for tuning: only the assistant's words and end mark carry loss."""
        ids, trained = [self.bos], [False]
        for message in messages:
            words = [*self.words(message["content"]), self.end]
            ids += [self.roles[message["role"]], *words]
            trained += [False] + [message["role"] == "assistant"] * len(words)
        return ids, trained


def document_batches(world: World, writer: Writer, size: int, seed: int) -> Iterator[TokenBatch]:
    """Fresh documents for ever."""
    rng = random.Random(f"documents {seed}")
    while True:
        yield collate([writer.document(world.document(rng)) for _ in range(size)])


@torch.no_grad()
def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Sequence[Message]],
    *,
    seed: int,
    temperature: float = 1.0,
    max_new_tokens: int = 48,
    batch: int = 256,
) -> list[str]:
    """Sample the assistant's next turn for each conversation that ends with the user.

    Returned in the world's plain form (words and marks parted by spaces). Prompts of
    equal length share a batch, so there is no padding and no order effect but the
    sampler's own stream.
    """
    writer = Writer(tokenizer)
    prompts = [[*writer.conversation(c)[0], writer.roles["assistant"]] for c in conversations]
    generator = torch.Generator().manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: dict[int, str] = {}
    for group in _equal_lengths(order, prompts, batch):
        ids = torch.tensor([prompts[i] for i in group])
        new = _continue(model, ids, writer.end, generator, temperature, max_new_tokens)
        for i, tokens in zip(group, new.tolist(), strict=True):
            words = tokens[: tokens.index(writer.end)] if writer.end in tokens else tokens
            found[i] = " ".join(tokenizer.convert_ids_to_tokens(words))
    return [found[i] for i in range(len(prompts))]


def _equal_lengths(
    order: Sequence[int], prompts: Sequence[Sequence[int]], batch: int
) -> Iterator[list[int]]:
    group: list[int] = []
    for i in order:
        if group and (len(group) == batch or len(prompts[i]) != len(prompts[group[0]])):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _continue(
    model: PreTrainedModel,
    ids: torch.Tensor,
    end: int,
    generator: torch.Generator,
    temperature: float,
    max_new_tokens: int,
) -> torch.Tensor:
    """Plain ancestral sampling with a key-value cache; (batch, new tokens)."""
    past = None
    step = ids
    new: list[torch.Tensor] = []
    finished = torch.zeros(len(ids), dtype=torch.bool)
    for _ in range(max_new_tokens):
        output = model(input_ids=step, past_key_values=past, use_cache=True)
        past = output.past_key_values
        logits = output.logits[:, -1]
        if temperature == 0:
            chosen = logits.argmax(-1, keepdim=True)
        else:
            probabilities = torch.softmax(logits / temperature, -1)
            chosen = torch.multinomial(probabilities, 1, generator=generator)
        new.append(chosen)
        finished |= chosen[:, 0] == end
        if bool(finished.all()):
            break
        step = chosen
    return torch.cat(new, 1)
