"""Try each toxic feature of a pack: does it follow harm, or only words that go with it?

A feature's words are found on the toxic rows that chose it. On the rows that had no part
in the choice, toxic and benign responses then change words: the feature's words leave the
toxic row for the benign one, ordinary words take their places. What is left is harm
without the words and the words without harm; the rule in `verdicts` says what the feature
follows. No language model writes anything: rows of real harm without toxic words, and of
harmless text with them, can be given and are then preferred.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofilter.errors import PackError
from geofilter.model.activations import TokenBudget, in_batches
from geofilter.model.loading import LoadedModel
from geofilter.packs.contrast import Contrast
from geofilter.packs.halves import MINIMUM_ROWS, split_halves
from geofilter.packs.labels import token_activations
from geofilter.packs.pack import FeaturePack
from geofilter.packs.verdicts import RowSource, Trial
from geofilter.packs.words import Word, WordedSample, WordFinder, exchange
from geofilter.stats.auroc import auroc
from geofilter.support.display import shown
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Floats = NDArray[np.float32]

# Of each feature. More would narrow intervals that are narrow enough.
MOST_PAIRS = 60
# Rows that a feature's words are read off.
_MOST_READ = 400
# A feature's words activate it, on average, at least this part as much as a toxic row.
_STRONG = 0.5
_FEWEST_GIVEN = MINIMUM_ROWS // 2
_SHOWN = 20  # words that a trial records


@dataclass(frozen=True)
class Given:
    """Rows that a user has: harm without toxic words, and harmless text with them."""

    harm: Contrast | None = None
    words: Contrast | None = None


def falsify(
    model: LoadedModel,
    pack: FeaturePack,
    toxic: Contrast,
    benign: Contrast,
    *,
    given: Given | None = None,
    budget: TokenBudget | None = None,
    progress: Progress = no_progress,
) -> FeaturePack:
    """The pack with a trial of each of its features; none is left out.

    `toxic` and `benign` must be the sets that the pack was made from, since only they say
    which rows chose the features: raises `PackError` for others. Of the `given` rows a
    feature is tried on those with its words, or without them; where fewer than ten are
    left, on edited contrast rows. `progress` counts the rows of each feature apart.
    """
    pack.verify(model)
    for name, contrast in (("toxic", toxic), ("benign", benign)):
        if dict(pack.provenance.get(name) or {}).get("sha256") != contrast.sha256:
            raise PackError(
                f"the pack was not made from {shown(contrast.source)}: its features "
                "can only be tried on the rows they were chosen from; make it again with "
                "geofilter discover --falsify"
            )
    given = given or Given()
    reader = _Reader(model, budget or TokenBudget.for_device(model.device))
    halves = split_halves(toxic, benign).parts
    found = reader.words_of_features(halves["toxic selection"][:_MOST_READ], pack.ids)
    above = reader.finder.read(halves["toxic report"])[:MOST_PAIRS]
    below = reader.finder.read(halves["benign report"])[:MOST_PAIRS]
    whole = [reader.peaks(rows, pack.ids) for rows in (above, below)]
    own_harm = reader.finder.read(given.harm.samples if given.harm else ())
    own_words = reader.finder.read(given.words.samples if given.words else ())
    trials: dict[int, Trial] = {}
    for words, places in _by_words(found).items():
        edited = exchange(above, below, words, model.max_context)
        harm, alone = (reader.finder.read(samples) for samples in edited)
        sides = (
            _preferred([row for row in own_harm if not row.holds(words)], harm),
            _preferred([row for row in own_words if row.holds(words)], alone),
        )
        peaks = [reader.peaks(side.rows, pack.ids[places]) for side in sides]
        for column, place in enumerate(places):
            trials[place] = _trial(
                feature=int(pack.ids[place]),
                words=tuple(map(reader.finder.text, found[place].words[:_SHOWN])),
                covered=found[place].covered,
                sources=[side.source for side in sides],
                peaks=[
                    *(values[:, place] for values in whole),
                    *(values[:, column] for values in peaks),
                ],
                # All features at once, by Bonferroni's inequality.
                level=1 - 0.05 / len(pack),
            )
        each = len(above) + len(below)
        progress("falsify", len(trials) * each, len(pack) * each)
    described = {
        name: rows_given.describe()
        for name, rows_given in (("polite_harm", given.harm), ("harmless_words", given.words))
        if rows_given is not None
    }
    return replace(
        pack,
        trials=tuple(trials[place] for place in range(len(pack))),
        provenance={**pack.provenance, **described},
    )


def _by_words(found: Sequence["_Found"]) -> dict[frozenset[Word], list[int]]:
    """Features that share their words are tried on the same rows."""
    groups: dict[frozenset[Word], list[int]] = {}
    for place, one in enumerate(found):
        groups.setdefault(frozenset(one.words), []).append(place)
    return groups


@dataclass(frozen=True)
class _Found:
    """A feature's words, strongest first, and its share of activation on them."""

    words: list[Word]
    covered: float


class _Reader:
    """Finds words in samples, and how active latents are at them."""

    def __init__(self, model: LoadedModel, budget: TokenBudget) -> None:
        self.finder = WordFinder(model.tokenizer)
        self._model, self._budget = model, budget

    def _activations(
        self, rows: Sequence[WordedSample], ids: NDArray[np.int32]
    ) -> list[tuple[NDArray[np.int32], Floats]]:
        """Per row its pooled tokens and the latents `ids` at each of them, (n, k)."""
        return in_batches(
            [row.sample for row in rows],
            lambda batch: token_activations(self._model, ids, batch),
            self._budget,
        )

    def peaks(self, rows: Sequence[WordedSample], ids: NDArray[np.int32]) -> Floats:
        """Greatest activation of each latent in each row, (rows, k)."""
        found = [activations.max(axis=0) for _, activations in self._activations(rows, ids)]
        return np.array(found, np.float32).reshape(len(rows), len(ids))

    def words_of_features(
        self, samples: Sequence["Encoded"], ids: NDArray[np.int32]
    ) -> list[_Found]:
        """The words of each feature, by its activation at them in toxic rows."""
        rows = self.finder.read(samples)
        total: dict[Word, Floats] = {}
        count: dict[Word, int] = {}
        peaks = []
        for row, (_, activations) in zip(rows, self._activations(rows, ids), strict=True):
            if not np.isfinite(activations).all():
                continue
            peaks.append(activations.max(axis=0))
            pooled = np.flatnonzero(row.sample.pooled)
            for word, place in row.words:
                first, last = np.searchsorted(pooled, (place.start, place.stop))
                strength = activations[first:last].max(axis=0)
                total[word] = total.get(word, np.float32(0)) + strength
                count[word] = count.get(word, 0) + 1
        sums = np.stack(list(total.values())).astype(np.float64)  # (words, k)
        means = sums / np.array(list(count.values()))[:, None]
        return [
            _strongest(list(total), sums[:, place], means[:, place], np.array(peaks)[:, place])
            for place in range(len(ids))
        ]


def _strongest(
    words: list[Word],
    sums: NDArray[np.float64],
    means: NDArray[np.float64],
    peaks: Floats,
) -> _Found:
    """The words that activate a feature by themselves; the strongest one in any case."""
    active = peaks[peaks > 0]
    least = _STRONG * active.mean() if len(active) else np.inf
    order = sorted(range(len(words)), key=lambda word: (-means[word], words[word]))
    chosen = [word for word in order if means[word] >= least] or order[:1]
    covered = sums[chosen].sum() / sums.sum() if sums.sum() > 0 else 0.0
    return _Found([words[word] for word in chosen], float(covered))


@dataclass(frozen=True)
class _Side:
    """Harm without a feature's words, or these words without harm."""

    rows: list[WordedSample]
    source: RowSource


def _preferred(given: list[WordedSample], edited: list[WordedSample]) -> _Side:
    """The rows that a user gave, where there are enough that fit."""
    return _Side(given, "given") if len(given) >= _FEWEST_GIVEN else _Side(edited, "edited")


def _trial(
    feature: int,
    words: tuple[str, ...],
    covered: float,
    sources: Sequence[RowSource],
    peaks: Sequence[Floats],
    level: float,
) -> Trial:
    """A feature's trial, from its `peaks` in rows: toxic, benign, harm alone, words alone."""
    # Rows at which the model overflows say nothing, here as in `make_pack`.
    toxic, benign, harm, alone = (values[np.isfinite(values)] for values in peaks)
    area, whole = auroc(harm, alone, level=level), auroc(toxic, alone, level=level)
    return Trial(
        feature=feature,
        words=words,
        covered=covered,
        toxic=_mean(toxic),
        harm_alone=_mean(harm),
        words_alone=_mean(alone),
        benign=_mean(benign),
        harm_rows=len(harm),
        words_rows=len(alone),
        harm_source=sources[0],
        words_source=sources[1],
        auroc=float(area.value),
        auroc_low=float(area.low),
        auroc_high=float(area.high),
        whole_auroc=float(whole.value),
        whole_auroc_low=float(whole.low),
        whole_auroc_high=float(whole.high),
    )


def _mean(values: Floats) -> float:
    return float(values.mean(dtype=np.float64))
