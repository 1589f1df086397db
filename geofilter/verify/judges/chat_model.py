"""A chat model on this machine, asked how likely it is to reply with given words."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from geofilter.errors import ModelError
from geofilter.model import fingerprint
from geofilter.model.blocks import find_blocks
from geofilter.model.loading import max_context
from geofilter.support.display import escape
from geofilter.verify.training.weights import load_causal


class Along(NamedTuple):
    """Log-probabilities of replies: of each chain of tokens as a beginning, (chains,), and of
    every token after each place of it, (chains, longest, vocabulary)."""

    chains: torch.Tensor
    after: torch.Tensor


class ChatModel:
    """The model in a folder, or `ORG/NAME` of the hub; see `weights.load_causal`.

    `role` is what messages say that it should be, such as `a judge`. Raises `ModelError` when it
    cannot be loaded.
    """

    def __init__(self, name: str, *, role: str, device: str, dtype: str | None) -> None:
        self._name, self._role = name, role
        model = load_causal(name, device=device, dtype=dtype)
        self.network, self.tokenizer = model.network, model.tokenizer
        self.context = max_context(self.network.config, self.tokenizer)  # tokens

    @property
    def shown(self) -> str:
        """The name, for a message."""
        return escape(self._name, limit=200)

    def facts(self) -> dict[str, object]:
        """The model's name, and what of it decides scores."""
        return {
            "model": self._name,
            "architecture": fingerprint.of_config(self.network.config),
            "weights": fingerprint.of_weights(
                self.network.get_input_embeddings(), list(find_blocks(self.network).blocks)
            ),
            "tokenizer": fingerprint.of_tokenizer(self.tokenizer),
        }

    def render(self, turns: Sequence[Mapping[str, str]], **settings: str) -> str:
        """`turns` in the chat template, up to where the reply begins; `settings` are for it.

        Raises `ModelError` without a template, and where that refuses them.
        """
        if self.tokenizer.chat_template is None:
            raise ModelError(
                f"{self.shown}: has no chat template, so it is no {self._role}; choose a chat model"
            )
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False, **settings
            )
        except Exception as error:  # a template may raise what it likes
            reason = escape(" ".join(str(error).split()), limit=200)
            raise ModelError(
                f"{self.shown}: its chat template refuses a prompt for a {self._role}: {reason}"
            ) from error
        return text

    def tokens(self, rendered: str) -> list[int]:
        """The tokens of a rendered prompt."""
        ids: list[int] = self.tokenizer(rendered, add_special_tokens=False).input_ids
        return ids

    def reply_tokens(self, rendered: str, before: list[int], reply: str) -> list[int]:
        """The tokens of `reply` after the prompt `rendered`, whose own are `before`.

        Where it would melt into the prompt's last token, its tokens on their own; empty for what
        the vocabulary cannot spell.
        """
        whole = self.tokens(rendered + reply)
        chain = whole[len(before) :]
        if whole[: len(before)] != before or not chain:
            chain = self.tokens(reply)
        return [] if self.tokenizer.unk_token_id in chain else chain

    @torch.no_grad()
    def read(self, prompt: torch.Tensor) -> Any:
        """A prompt of (1, tokens), read once, for `along`."""
        return self.network(input_ids=prompt, use_cache=True, logits_to_keep=1)

    @torch.no_grad()
    def along(self, chains: Sequence[Sequence[int]], output: Any) -> Along:
        """How likely the reply begins with each chain, all on copies of one prompt's cache."""
        first = output.logits[0, -1].double().log_softmax(-1)  # (vocabulary,)
        longest = max(map(len, chains))
        # Padded on the right, where a causal model looks at nothing that counts.
        ids = torch.tensor([[*chain, *[0] * (longest - len(chain))] for chain in chains])
        cache = copy.deepcopy(output.past_key_values)
        cache.batch_repeat_interleave(len(chains))
        logits = self.network(
            input_ids=ids.to(self.network.device), past_key_values=cache, use_cache=True
        ).logits
        after = logits.double().log_softmax(-1)  # (chains, longest, vocabulary)
        totals = [
            first[chain[0]] + sum(after[row, place, token] for place, token in enumerate(chain[1:]))
            for row, chain in enumerate(chains)
        ]
        return Along(torch.stack(totals), after)
