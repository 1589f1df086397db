"""A judge on this machine: a causal language model, its numbers read off its own logits.

Where the tokenizer writes every number it can spell as one token, the score is that of the
rule in `judge`, over the whole vocabulary. Where some number takes several tokens ("85" as
"8", "5"), the probability of each number k is exact: the product along its tokens, times
the probability that no digit follows, so that "8" is not counted for "85". Only the
tokenizer's own spelling of a number counts.
"""

from collections.abc import Iterator, Sequence

import torch

from geofilter.errors import ModelError
from geofilter.verify.judges.base import Asked, Judgement, by_prompts
from geofilter.verify.judges.chat_model import ChatModel
from geofilter.verify.judges.reply import Rule, Score, as_integer, score_of_probabilities
from geofilter.verify.questions import Question, require_prompts

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
        self._model = ChatModel(model, role="judge", device=device, dtype=dtype)
        tokenizer = self._model.tokenizer
        self._chains = _chains(self._model, self._render("A question."))
        if not self._chains:
            raise ModelError(
                f"{self._model.shown}: its tokenizer can spell no number from 0 to 100; "
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
        facts = self._model.facts()
        return {"judge": "local", **facts, "template": self._render("A question.")}

    def check(self, questions: Sequence[Question]) -> None:
        """Raise `DataError` for a question without judge prompts."""
        require_prompts(questions)

    def __call__(self, answers: Sequence[Asked]) -> list[Judgement]:
        """One judgement per answer, in order; unscored where a prompt does not fit the model."""
        self.check([asked.question for asked in answers])
        return by_prompts(answers, self._scores)

    def _scores(self, prompts: Sequence[str]) -> list[Score]:
        device = self._model.network.device
        room = self._model.context - max(map(len, self._chains.values()))
        ids = [self._model.tokens(self._render(p)) for p in prompts]
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
        return self._model.render([{"role": "user", "content": prompt}])

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
        output = self._model.read(prompt)
        numbers = list(self._chains)
        found: dict[str, float] = {}
        for start in range(0, len(numbers), _NUMBERS_AT_ONCE):
            group = numbers[start : start + _NUMBERS_AT_ONCE]
            chains = [self._chains[k] for k in group]
            shares, after = self._model.along(chains, output)
            for row, (k, chain) in enumerate(zip(group, chains, strict=True)):
                goes_on = after[row, len(chain) - 1, self._digits].exp().sum()
                found[str(k)] = float(shares[row].exp() * (1 - goes_on).clamp(min=0))
        return found


def named(spec: str, rule: Rule | None) -> LocalJudge | None:
    """The judge of a folder or a hub id, which is all that is no address."""
    return LocalJudge(spec) if spec and "://" not in spec else None


_DIGITS = tuple("0123456789")


def _chains(model: ChatModel, rendered: str) -> dict[int, list[int]]:
    """The tokens of each number from 0 to 100 as a reply to a rendered prompt, where it has any."""
    before = model.tokens(rendered)
    found = {}
    for k in range(101):
        if chain := model.reply_tokens(rendered, before, str(k)):
            found[k] = chain
    return found


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
