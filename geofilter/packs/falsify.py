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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geofilter.errors import PackError
from geofilter.model.activations import TokenBudget, in_batches
from geofilter.model.loading import LoadedModel
from geofilter.packs.contrast import MINIMUM_ROWS, Contrast, split_halves
from geofilter.packs.labels import token_activations
from geofilter.packs.pack import FeaturePack
from geofilter.packs.verdicts import RowSource, Trial
from geofilter.packs.words import Word, WordFinder
from geofilter.stats.auroc import auroc
from geofilter.support.display import escape
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Floats = NDArray[np.float32]
# A word and the places of its tokens in the sample, ascending and adjacent.
Placed = tuple[Word, slice]

# Of each feature. More would narrow intervals that are narrow enough.
MOST_PAIRS = 60
# Rows that a feature's words are read off.
_MOST_READ = 400
# A feature's words activate it, on average, at least this part as much as a toxic row.
_STRONG = 0.5
# A benign row keeps at least this part of its own words.
_KEPT = 0.5
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
                f"the pack was not made from {escape(contrast.source, limit=200)}: its features "
                "can only be tried on the rows they were chosen from; make it again with "
                "geofilter discover --falsify"
            )
    given = given or Given()
    setting = _Setting(model, pack.ids, budget or TokenBudget.for_device(model.device))
    halves = split_halves(toxic, benign)[0]
    found = setting.words_of_features(halves["toxic selection"][:_MOST_READ])
    above = setting.rows(halves["toxic report"])[:MOST_PAIRS]
    below = setting.rows(halves["benign report"])[:MOST_PAIRS]
    rows = _Rows(
        above,
        below,
        setting.peaks(above, pack.ids),
        setting.peaks(below, pack.ids),
        setting.rows(given.harm.samples if given.harm else ()),
        setting.rows(given.words.samples if given.words else ()),
    )
    trials: dict[int, Trial] = {}
    for words, places in _by_words(found).items():
        sides = _sides(setting, rows, words)
        peaks = [setting.peaks(side.rows, pack.ids[places]) for side in sides]
        for column, place in enumerate(places):
            alone = [side_peaks[:, column] for side_peaks in peaks]
            trials[place] = _trial(setting, rows, place, found[place], sides, alone)
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


@dataclass(frozen=True)
class _Read:
    """A sample and its words."""

    sample: "Encoded"
    words: tuple[Placed, ...]


@dataclass(frozen=True)
class _Rows:
    """The rows of all trials, and the peaks of every feature in them, (rows, k)."""

    toxic: list[_Read]
    benign: list[_Read]
    toxic_peaks: Floats
    benign_peaks: Floats
    given_harm: list[_Read]
    given_words: list[_Read]


class _Setting:
    """What it takes to read rows: the model, a budget and a finder of words."""

    def __init__(self, model: LoadedModel, ids: NDArray[np.int32], budget: TokenBudget) -> None:
        self.model, self.ids, self._budget = model, ids, budget
        self.finder = WordFinder(model.tokenizer)

    def rows(self, samples: Sequence["Encoded"]) -> list[_Read]:
        """The samples that have words, with them."""
        read = [_Read(sample, self.finder.words(sample)) for sample in samples]
        return [row for row in read if row.words]

    def activations(
        self, rows: Sequence[_Read], ids: NDArray[np.int32]
    ) -> list[tuple[NDArray[np.int32], Floats]]:
        """Per row its pooled tokens and the latents `ids` at each of them, (n, k)."""
        return in_batches(
            [row.sample for row in rows],
            lambda batch: token_activations(self.model, ids, batch),
            self._budget,
        )

    def peaks(self, rows: Sequence[_Read], ids: NDArray[np.int32]) -> Floats:
        """Greatest activation of each latent in each row, (rows, k)."""
        found = [activations.max(axis=0) for _, activations in self.activations(rows, ids)]
        return np.array(found, np.float32).reshape(len(rows), len(ids))

    def words_of_features(self, samples: Sequence["Encoded"]) -> list[_Found]:
        """The words of each feature, by its activation at them in toxic rows."""
        rows = self.rows(samples)
        total: dict[Word, Floats] = {}
        count: dict[Word, int] = {}
        peaks = []
        for row, (_, activations) in zip(rows, self.activations(rows, self.ids), strict=True):
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
            for place in range(len(self.ids))
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


class _Side(NamedTuple):
    """Harm without a feature's words, or these words without harm."""

    rows: list[_Read]
    source: RowSource


def _sides(setting: _Setting, rows: _Rows, words: frozenset[Word]) -> tuple[_Side, _Side]:
    """Harm without the words and the words without harm: given where there are enough."""
    own_harm = [row for row in rows.given_harm if not _holds(row, words)]
    own_words = [row for row in rows.given_words if _holds(row, words)]
    harm, alone = _exchanged(setting, rows, words)
    return (
        _Side(own_harm, "given") if len(own_harm) >= _FEWEST_GIVEN else _Side(harm, "edited"),
        _Side(own_words, "given") if len(own_words) >= _FEWEST_GIVEN else _Side(alone, "edited"),
    )


def _holds(row: _Read, words: frozenset[Word]) -> bool:
    return any(word in words for word, _ in row.words)


def _trial(
    setting: _Setting,
    rows: _Rows,
    place: int,
    found: _Found,
    sides: tuple[_Side, _Side],
    peaks: Sequence[Floats],
) -> Trial:
    """The feature at `place` of the pack, from its `peaks` on both sides, (rows,) each."""
    # Rows at which the model overflows say nothing, here as in discovery.
    toxic, benign, harm, words = (
        values[np.isfinite(values)]
        for values in (rows.toxic_peaks[:, place], rows.benign_peaks[:, place], *peaks)
    )
    # All features at once, by Bonferroni's inequality.
    level = 1 - 0.05 / len(setting.ids)
    area, whole = auroc(harm, words, level=level), auroc(toxic, words, level=level)
    return Trial(
        feature=int(setting.ids[place]),
        words=tuple(setting.finder.text(word) for word in found.words[:_SHOWN]),
        covered=found.covered,
        toxic=_mean(toxic),
        harm_alone=_mean(harm),
        words_alone=_mean(words),
        benign=_mean(benign),
        harm_rows=len(harm),
        words_rows=len(words),
        harm_source=sides[0].source,
        words_source=sides[1].source,
        auroc=float(area.value),
        auroc_low=float(area.low),
        auroc_high=float(area.high),
        whole_auroc=float(whole.value),
        whole_auroc_low=float(whole.low),
        whole_auroc_high=float(whole.high),
    )


def _mean(values: Floats) -> float:
    return float(values.mean(dtype=np.float64))


def _exchanged(
    setting: _Setting, rows: _Rows, words: frozenset[Word]
) -> tuple[list[_Read], list[_Read]]:
    """Harm without the words, and the words without harm, row by row."""
    candidates = sorted(words)
    # Of the words alone, so that no other feature of the pack changes a trial.
    rng = np.random.default_rng([token for word in candidates for token in word])
    longest = setting.model.max_context
    without, alone = [], []
    for toxic, benign in zip(rows.toxic, rows.benign, strict=False):
        there = [(word, place) for word, place in toxic.words if word in words]
        moving = [word for word, _ in there] or [candidates[rng.integers(len(candidates))]]
        # Where a feature is active at every word, any word has to do.
        free = [(word, place) for word, place in benign.words if word not in words]
        free = free or list(benign.words)
        room = max(1, int(len(free) * (1 - _KEPT)))
        chosen = rng.permutation(len(free))[: min(room, len(moving))]
        leaving = [free[number] for number in sorted(chosen)]
        ordinary = [word for word, _ in leaving]
        returned = [
            (ordinary[number % len(ordinary)], place) for number, (_, place) in enumerate(there)
        ]
        moved = [(word, place) for (_, place), word in zip(leaving, moving, strict=False)]
        without.append(_replaced(toxic.sample, returned, longest))
        alone.append(_replaced(benign.sample, moved, longest))
    return setting.rows(without), setting.rows(alone)


def _replaced(sample: "Encoded", new: Sequence[Placed], longest: int) -> "Encoded":
    """The sample with other tokens at some places, in order; cut at `longest` tokens."""
    ids: list[int] = []
    response: list[bool] = []
    pooled: list[bool] = []
    at = 0
    for word, place in new:
        ids += [*sample.ids[at : place.start].tolist(), *word]
        response += [*sample.response[at : place.start].tolist(), *[True] * len(word)]
        pooled += [*sample.pooled[at : place.start].tolist(), *[True] * len(word)]
        at = place.stop
    ids += sample.ids[at:].tolist()
    response += sample.response[at:].tolist()
    pooled += sample.pooled[at:].tolist()
    return replace(
        sample,
        ids=np.array(ids[:longest], np.int32),
        response=np.array(response[:longest], np.bool_),
        pooled=np.array(pooled[:longest], np.bool_),
        total_tokens=sample.total_tokens + len(ids) - len(sample.ids),
    )
