"""What the alarm reads of a network in training: its answers, along the dense direction.

The network answers a fixed set of questions, greedily, and each answer is projected on the pack's
dense direction as the score `persona` is. Or, without answers, the residual stream at the last
token of each question is projected, where an answer would begin (as Chen et al. 2025 measure what
fine-tuning shifts).

Reading changes nothing in training: random state, the mode of every module and the model's settings
for generation are put back, and no gradient is touched.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any, Literal, get_args

import numpy as np

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.rows import open_rows
from geofilter.data.samples import Sample, Turn
from geofilter.errors import GeofilterError, ModelError
from geofilter.model.activations import TokenBudget
from geofilter.model.answers import draw, end_ids, opening_ids, undisturbed
from geofilter.model.catalogue import NO_SAE, CatalogueEntry
from geofilter.model.features import sample_features
from geofilter.model.loading import LoadedModel
from geofilter.model.threads import few_threads
from geofilter.packs.pack import FeaturePack
from geofilter.packs.pairs import shipped
from geofilter.scoring.scorers.persona import projection
from geofilter.support.display import escape

# Of each domain of the pairs that packs are made from; what is reported is measured on others.
PROMPTS_PER_DOMAIN = 2
MAX_NEW_TOKENS = 48
# What is read: the answers to the questions, or the last token of each question.
Reads = Literal["answers", "questions"]
READS: tuple[Reads, ...] = get_args(Reads)
# Prompts that are answered at once.
_AT_ONCE = 64


def default_prompts(entry: CatalogueEntry | None = None) -> tuple[str, ...]:
    """Prompts of the pairs that packs are made from, two of each domain: 38.

    For a model with contrast sets of its own, as many questions of its benign one.
    """
    by_domain: dict[str, list[str]] = {}
    for pair in shipped("make"):
        by_domain.setdefault(pair.domain, []).append(pair.prompt)
    if entry is None or entry.benign is None:
        return tuple(
            prompts[place * len(prompts) // PROMPTS_PER_DOMAIN]
            for prompts in by_domain.values()
            for place in range(PROMPTS_PER_DOMAIN)
        )
    rows = open_rows(entry.path(entry.benign))
    tally = rows.tally()
    asked = {
        turn.content: None
        for row in rows
        for sample in tally.samples(row.record, row.where, row.problem)
        for turn in sample.turns
        if turn.role == "user"
    }
    count = PROMPTS_PER_DOMAIN * len(by_domain)
    return tuple(list(asked)[place * len(asked) // count] for place in range(count))


@dataclass(frozen=True)
class Reading:
    """Projections on the dense direction, and the answers where they are what is projected.

    None stands for an empty answer, or one whose activations are no numbers.
    """

    projections: tuple[float | None, ...]
    answers: tuple[str, ...]

    def change(self, before: Sequence[float | None]) -> float | None:
        """The mean change since `before`, over prompts with both; None where most lack one."""
        both = [
            now - then
            for now, then in zip(self.projections, before, strict=True)
            if now is not None and then is not None
        ]
        return mean(both) if 2 * len(both) > len(before) else None


class NetworkReader:
    """Reads networks in training along the dense direction of a pack.

    `model`: the model that the pack belongs to; its network is not used and may be None.
    """

    def __init__(
        self,
        model: LoadedModel,
        pack: FeaturePack,
        prompts: Sequence[str],
        *,
        reads: Reads = "answers",
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        if reads not in READS:
            raise GeofilterError(f"reads {escape(reads)}: is not one of {', '.join(READS)}")
        self._reads = reads
        # Latents would be made and thrown away.
        self._model = replace(model, network=None, sae=None, sae_name=NO_SAE, causal=True)
        self._pack = pack
        self._prompts = tuple(prompts)
        self._max_new_tokens = max_new_tokens

    def facts(self) -> dict[str, Any]:
        """What decides a reading of a network, as JSON values."""
        text = json.dumps(self._prompts)
        return {
            "pack": self._pack.digest,
            "block": self._model.block,
            "prompts": hashlib.sha256(text.encode()).hexdigest()[:16],
            "reads": self._reads,
            "max_new_tokens": self._max_new_tokens if self._reads == "answers" else None,
        }

    def read(self, network: Any, tokenizer: Any) -> Reading:
        """What `network`, whole or an adapter around one, is now; it is left as it was.

        Raises `ModelError` where the chat template does not take a question.
        """
        try:
            openings = [opening_ids(tokenizer, [Turn("user", text)]) for text in self._prompts]
        except Unscorable as error:
            raise ModelError(f"the prompts cannot be put: {error.problem.reason}") from error
        answers: list[str] = []
        with undisturbed(network), few_threads(network):
            if self._reads == "answers":
                answers = self._answers(network, tokenizer, openings)
                encoder = Encoder(tokenizer, max_length=self._model.max_context)
                pairs = zip(self._prompts, answers, strict=True)
                found = [_encoded(encoder, *pair) for pair in pairs]
            else:
                found = [_last_token(ids) for ids in openings]
            own = replace(self._model, network=network, tokenizer=tokenizer, device=network.device)
            features = iter(
                sample_features(
                    own,
                    [one for one in found if one is not None],
                    budget=TokenBudget.for_device(own.device),
                )
            )
            projections = [None if one is None else self._project(next(features)) for one in found]
        return Reading(tuple(projections), tuple(answers))

    def _project(self, features: Any) -> float | None:
        if isinstance(features, Problem):
            return None
        value = projection(features.mean_hidden, self._pack)
        return value if np.isfinite(value) else None

    def _answers(
        self, network: Any, tokenizer: Any, openings: Sequence[Sequence[int]]
    ) -> list[str]:
        ends = end_ids(network, tokenizer)
        found: list[str] = []
        for start in range(0, len(openings), _AT_ONCE):
            drawn = draw(
                network,
                tokenizer,
                openings[start : start + _AT_ONCE],
                temperature=0.0,
                max_new_tokens=self._max_new_tokens,
                ends=ends,
            )
            found += [one.text for one in drawn]
        return found


def _last_token(ids: Sequence[int]) -> Encoded:
    """A question of which the last token alone is looked at."""
    last = np.arange(len(ids)) == len(ids) - 1
    return Encoded(np.array(ids, np.int32), last, last, False, len(ids), None)


def _encoded(encoder: Encoder, prompt: str, text: str) -> Any:
    """A prompt and its answer as a row would be scored; None for an empty answer."""
    try:
        encoded = encoder.encode(
            Sample((Turn("user", prompt), Turn("assistant", text)), prompt_turns=1)
        )
    except Unscorable:
        return None
    return encoded if encoded.pooled.any() else None
