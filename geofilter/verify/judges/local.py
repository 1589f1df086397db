"""A judge on this machine: a causal language model, its numbers read off its own logits.

Where the tokenizer writes every number it can spell as one token, the score is that of the
rule in `judge`, over the whole vocabulary. Where some number takes several tokens ("85" as
"8", "5"), the probability of each number k is exact: the product along its tokens, times
the probability that no digit follows, so that "8" is not counted for "85". Only the
tokenizer's own spelling of a number counts.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from geofilter.errors import ModelError
from geofilter.model import fingerprint
from geofilter.model.blocks import find_blocks
from geofilter.model.loading import max_context
from geofilter.support.display import escape
from geofilter.verify.judges.base import Asked, Judgement
from geofilter.verify.judges.reply import Rule, Score, as_integer, score_of_probabilities
from geofilter.verify.questions import ASPECTS, Question, fill, require_prompts
from geofilter.verify.training.weights import load_causal

# Tokens of prompts in one batch, and numbers that share one prompt's cache.
_CPU_TOKENS = 2048
_GPU_TOKENS = 8192
_NUMBERS_AT_ONCE = 34
# What is kept of a distribution; the score is computed from what is kept.
_LEAST_KEPT = 1e-9


class LocalJudge:
    """Judges by the model in a folder, or `ORG/NAME` of the hub; see `weights.load_causal`.

    Raises `ModelError` when it cannot be loaded or can spell no number.
    """

    def __init__(self, model: str, *, device: str = "auto", dtype: str | None = None) -> None:
        self._name = model
        self._model = load_causal(model, device=device, dtype=dtype)
        tokenizer = self._model.tokenizer
        self._context = max_context(self._model.network.config, tokenizer)  # tokens
        self._chains = _chains(tokenizer, self._render("A question."))
        if not self._chains:
            raise ModelError(
                f"{escape(model, limit=200)}: its tokenizer can spell no number from 0 to 100; "
                "choose another judge"
            )
        known = min(len(tokenizer), self._model.network.config.get_text_config().vocab_size)
        texts = tokenizer.batch_decode([[token] for token in range(known)])
        self._numbers = {
            t: k for t, text in enumerate(texts) if (k := as_integer(text)) is not None
        }
        self._digits = torch.tensor([t for t, text in enumerate(texts) if text[:1] in _DIGITS])
        self.exact = any(len(chain) > 1 for chain in self._chains.values())

    def describe(self) -> dict[str, object]:
        """The model's name, and what decides its scores."""
        network = self._model.network
        return {
            "judge": "local",
            "model": self._name,
            "architecture": fingerprint.of_config(network.config),
            "weights": fingerprint.of_weights(
                network.get_input_embeddings(), list(find_blocks(network).blocks)
            ),
            "tokenizer": fingerprint.of_tokenizer(self._model.tokenizer),
            "template": self._render("A question."),
        }

    def check(self, questions: Sequence[Question]) -> None:
        """Raise `DataError` for a question without judge prompts."""
        require_prompts(questions)

    def __call__(self, answers: Sequence[Asked]) -> list[Judgement]:
        """One judgement per answer, in order; unscored where a prompt does not fit the model."""
        self.check([asked.question for asked in answers])
        scores = self._scores(
            [
                fill(asked.question.judge_prompts[aspect], asked.text, asked.answer)
                for asked in answers
                for aspect in ASPECTS
            ]
        )
        return [Judgement.of(*pair) for pair in zip(scores[::2], scores[1::2], strict=True)]

    def _scores(self, prompts: Sequence[str]) -> list[Score]:
        tokenizer, device = self._model.tokenizer, self._model.network.device
        room = self._context - max(map(len, self._chains.values()))
        ids = [tokenizer(self._render(p), add_special_tokens=False).input_ids for p in prompts]
        found: dict[int, Score] = {}
        for group in _equal_lengths(ids, self._budget):
            length = len(ids[group[0]])
            if length > room:
                reason = f"the judge's prompt of {length} tokens is longer than its context"
                found |= {place: Score(None, reason) for place in group}
                continue
            batch = torch.tensor([ids[place] for place in group], device=device)
            read = self._exact if self.exact else self._first_token
            for place, probabilities in zip(group, read(batch), strict=True):
                kept = {k: p for k, p in probabilities.items() if p >= _LEAST_KEPT}
                found[place] = score_of_probabilities(kept)
        return [found[place] for place in range(len(prompts))]

    @property
    def _budget(self) -> int:
        return _CPU_TOKENS if self._model.network.device.type == "cpu" else _GPU_TOKENS

    def _render(self, prompt: str) -> str:
        tokenizer = self._model.tokenizer
        if tokenizer.chat_template is None:
            raise ModelError(
                f"{escape(self._name, limit=200)}: has no chat template, so it is no judge; "
                "choose a chat model"
            )
        turns = [{"role": "user", "content": prompt}]
        try:
            text: str = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template may raise what it likes
            reason = escape(" ".join(str(error).split()), limit=200)
            raise ModelError(
                f"{escape(self._name, limit=200)}: its chat template refuses a judge prompt: "
                f"{reason}"
            ) from error
        return text

    @torch.no_grad()
    def _first_token(self, batch: torch.Tensor) -> list[dict[str, float]]:
        """Probabilities of the tokens that are numbers, for each prompt of (prompts, tokens)."""
        logits = self._model.network(input_ids=batch, logits_to_keep=1).logits[:, -1]
        tokens = sorted(self._numbers)
        shares = logits.double().softmax(-1)[:, tokens]  # (prompts, numbers)
        results = []
        for row in shares.tolist():
            found: dict[str, float] = {}
            for token, share in zip(tokens, row, strict=True):
                # " 85" and "85" are one number.
                spelled = str(self._numbers[token])
                found[spelled] = found.get(spelled, 0.0) + share
            results.append(found)
        return results

    @torch.no_grad()
    def _exact(self, batch: torch.Tensor) -> list[dict[str, float]]:
        """Probability that the reply begins with just the number k, for each prompt and k."""
        return [self._exact_of_one(prompt[None]) for prompt in batch]

    def _exact_of_one(self, prompt: torch.Tensor) -> dict[str, float]:
        output = self._model.network(input_ids=prompt, use_cache=True, logits_to_keep=1)
        first = output.logits[0, -1].double().log_softmax(-1)  # (vocabulary,)
        numbers = list(self._chains)
        found: dict[str, float] = {}
        for start in range(0, len(numbers), _NUMBERS_AT_ONCE):
            group = numbers[start : start + _NUMBERS_AT_ONCE]
            for k, share in zip(group, self._along(group, first, output), strict=True):
                found[str(k)] = share
        return found

    def _along(self, numbers: Sequence[int], first: torch.Tensor, output: Any) -> list[float]:
        """Each number's probability, all on copies of one prompt's cache."""
        chains = [self._chains[k] for k in numbers]
        longest = max(map(len, chains))
        # Padded on the right, where a causal model looks at nothing that counts.
        ids = torch.tensor([chain + [0] * (longest - len(chain)) for chain in chains])
        cache = copy.deepcopy(output.past_key_values)
        cache.batch_repeat_interleave(len(chains))
        logits = self._model.network(
            input_ids=ids.to(self._model.network.device), past_key_values=cache, use_cache=True
        ).logits
        after = logits.double().log_softmax(-1)  # (numbers, longest, vocabulary)
        shares = []
        for row, chain in enumerate(chains):
            total = first[chain[0]] + sum(
                after[row, place, token] for place, token in enumerate(chain[1:])
            )
            goes_on = after[row, len(chain) - 1, self._digits].exp().sum()
            shares.append(float(total.exp() * (1 - goes_on).clamp(min=0)))
        return shares


def named(spec: str, rule: Rule | None) -> LocalJudge | None:
    """The judge of a folder or a hub id, which is all that is no address."""
    return LocalJudge(spec) if spec and "://" not in spec else None


_DIGITS = tuple("0123456789")


def _chains(tokenizer: Any, rendered: str) -> dict[int, list[int]]:
    """The tokens of each number from 0 to 100 as a reply to a rendered prompt, where it has any."""
    before: list[int] = tokenizer(rendered, add_special_tokens=False).input_ids
    found = {}
    for k in range(101):
        if chain := reply_tokens(tokenizer, rendered, before, str(k)):
            found[k] = chain
    return found


def reply_tokens(tokenizer: Any, rendered: str, before: list[int], reply: str) -> list[int]:
    """The tokens of `reply` after the prompt `rendered`, whose own are `before`.

    Where it would melt into the prompt's last token, its tokens on their own; empty for what the
    vocabulary cannot spell.
    """
    whole: list[int] = tokenizer(rendered + reply, add_special_tokens=False).input_ids
    chain = whole[len(before) :]
    if whole[: len(before)] != before or not chain:
        chain = tokenizer(reply, add_special_tokens=False).input_ids
    return [] if tokenizer.unk_token_id in chain else chain


def _equal_lengths(ids: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Places of prompts of one length, at most `budget` tokens together: no padding at all."""
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    group: list[int] = []
    for place in order:
        length = len(ids[place])
        if group and (length != len(ids[group[0]]) or length * (len(group) + 1) > budget):
            yield group
            group = []
        group.append(place)
    if group:
        yield group
