"""From what is kept of each row to what each way of scoring reaches: arithmetic alone.

The rule by which a way is chosen: of all blocks, estimators and poolings of one scorer and one
contrast, the one whose AUROC within a domain, averaged over the domains of the split `choose`, is
highest. Directions are those that geofilter makes: of pairs with the one shrinkage it uses for all
models and, where the catalogue knows SAEs of the model, at a block with one; of web fragments the
plain difference, at any block. Every other set only reports.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import real_text_cells as cells
from geofilter.packs.dense import SHRINKAGE, dense_direction
from real_text_cells import Scores
from real_text_features import Side
from real_text_sets import Set

Floats = NDArray[np.float64]

# How many pairs a direction is made from, to see whether more would help, and how often.
PAIRS, TIMES = (16, 32, 64, 128, 256, 512), 20


def groups(one: Set) -> tuple[Sequence[str], Sequence[str]]:
    """The group of each row, of both sides."""
    return [item.group for item in one.harmful], [item.group for item in one.benign]


class Looked(NamedTuple):
    """A set and what one model's pass kept of its sides."""

    set: Set
    harmful: Side
    benign: Side

    def groups(self) -> tuple[Sequence[str], Sequence[str]]:
        above, below = groups(self.set)
        return [above[i] for i in self.harmful.kept], [below[i] for i in self.benign.kept]

    def tokens(self) -> Floats:
        return np.concatenate([self.harmful.tokens, self.benign.tokens])


# The plain difference of means, and Fisher's discriminant with less or more shrinkage.
SHRINKAGES = {"mean": 1.0} | {f"fisher-{share}": share for share in (0.05, 0.1, 0.2, 0.35)}
SHIPPED = {"pairs": f"fisher-{SHRINKAGE}", "rtp": "mean"}
# The set that a direction is made from.
CONTRASTS = {"pairs": "pairs-make", "rtp": "rtp"}


def direction(looked: Looked, block: int, estimator: str) -> Floats:
    """The dense direction of a contrast at a block, (d_model,)."""
    toxic, benign = (side.means[:, block].astype(np.float64) for side in looked[1:])
    return dense_direction(toxic, benign, pairs=True, shrinkage=SHRINKAGES[estimator])


def persona(looked: Looked, block: int, along: Floats) -> Scores:
    """The scorer `persona`: the mean activation along a direction."""
    above, below = (side.means[:, block].astype(np.float64) @ along for side in looked[1:])
    return Scores(above, below, looked.groups(), looked.tokens())


def spillover(looked: Looked, pushes: tuple[Floats, Floats], block: int, along: Floats) -> Scores:
    """The scorer `spillover`: the cosine of the push of a training step to a direction."""
    sides = []
    for push in pushes:
        mine = push[:, block].astype(np.float64)
        sides.append(mine @ along / np.linalg.norm(mine, axis=1))
    return Scores(*sides, looked.groups(), looked.tokens())


def larf(looked: Looked, source: Looked, block: int) -> Scores:
    """How much nearer a row lies to harmful rows than to helpful ones, in [-2, 2].

    The mean cosine of its mean activation to those of the contrast's harmful rows, less that to
    its helpful rows: the ranking of Layer-Aware Representation Filtering (Li et al., 2507.18631),
    which takes the activation at the last token, and the layer at which scaled weights change
    refusals most. Here the split `choose` chooses the block, as for every other way.
    """

    def unit(side: Side) -> Floats:
        means = side.means[:, block].astype(np.float64)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    towards = unit(source.harmful).mean(axis=0) - unit(source.benign).mean(axis=0)
    above, below = (unit(side) @ towards for side in looked[1:])
    return Scores(above, below, looked.groups(), looked.tokens())


def loss(looked: Looked) -> Scores | None:
    """The mean loss of the response; None where the model has no head."""
    above, below = looked.harmful.loss, looked.benign.loss
    if np.isnan(above).any() or np.isnan(below).any():
        return None
    return Scores(above, below, looked.groups(), looked.tokens())


class Way(NamedTuple):
    """One way to score: everything but the block."""

    scorer: str
    contrast: str
    estimator: str
    pooling: str = "mean"

    def __str__(self) -> str:
        return "/".join(self)


# Scores by way, block and set.
Table = dict[Way, dict[int, dict[str, Scores]]]


def persona_table(looked: Mapping[str, Looked]) -> Table:
    """`persona` at every block, with every contrast and estimator, on every set."""
    table: Table = {}
    for contrast, source in CONTRASTS.items():
        blocks = looked[source].harmful.means.shape[1]
        for estimator in SHRINKAGES:
            found = table[Way("persona", contrast, estimator)] = {}
            for block in range(blocks):
                along = direction(looked[source], block, estimator)
                found[block] = {
                    name: persona(one, block, along)
                    for name, one in looked.items()
                    if name != source
                }
    return table


def larf_table(looked: Mapping[str, Looked]) -> Table:
    """`larf` at every block, with pairs as references."""
    source = looked[CONTRASTS["pairs"]]
    return {
        Way("larf", "pairs", "cosines"): {
            block: {
                name: larf(one, source, block) for name, one in looked.items() if one is not source
            }
            for block in range(source.harmful.means.shape[1])
        }
    }


def spillover_table(
    looked: Mapping[str, Looked],
    thinned: Mapping[str, tuple[Looked, tuple[Floats, Floats]]],
) -> Table:
    """`spillover` at every block, on the rows whose pushes are known."""
    table: Table = {}
    for contrast, source in CONTRASTS.items():
        blocks = looked[source].harmful.means.shape[1]
        for estimator in SHRINKAGES:
            found = table[Way("spillover", contrast, estimator)] = {}
            for block in range(blocks):
                along = direction(looked[source], block, estimator)
                found[block] = {
                    name: spillover(one, push, block, along)
                    for name, (one, push) in thinned.items()
                }
    return table


def choosing(scores: Scores) -> float:
    """What the rule looks at: the mean over domains of the AUROC within each."""
    return float(np.mean(list(cells.by_group(scores).values())))


class Choice(NamedTuple):
    """The way and block that the choosing split chose, and what it reached there."""

    way: Way
    block: int
    on_choose: float


def choose(table: Table, with_sae: Collection[int]) -> dict[str, Choice]:
    """For each scorer and contrast, by the rule above; names are SCORER/CONTRAST.

    `with_sae`: the blocks that have an SAE; empty where none has.
    """
    chosen: dict[str, Choice] = {}
    for way, blocks in table.items():
        dense = way.estimator in SHRINKAGES
        if dense and way.estimator != SHIPPED[way.contrast]:
            continue
        for block, sets in blocks.items():
            if dense and way.contrast == "pairs" and with_sae and block not in with_sae:
                continue
            reached = choosing(sets["pairs-choose"])
            name = f"{way.scorer}/{way.contrast}"
            if name not in chosen or reached > chosen[name].on_choose:
                chosen[name] = Choice(way, block, reached)
    return chosen


def judged(sets: Mapping[str, Scores]) -> list[Scores]:
    return [scores for name, scores in sets.items() if name.startswith("judged-")]


def scale(looked: Mapping[str, Looked], choice: Choice) -> dict[str, list[float]]:
    """The mean AUROC over the judged sets with directions from fewer pairs, at the chosen block.

    For each number of pairs the mean, the least and the greatest of `TIMES` draws.
    """
    source = looked["pairs-make"]
    toxic, benign = (side.means[:, choice.block].astype(np.float64) for side in source[1:])
    random = np.random.default_rng(cells.SEED)
    found = {}
    for pairs in (*(n for n in PAIRS if n < len(toxic)), len(toxic)):
        means = []
        for _ in range(TIMES if pairs < len(toxic) else 1):
            rows = random.permutation(len(toxic))[:pairs]
            shrinkage = SHRINKAGES[choice.way.estimator]
            along = dense_direction(toxic[rows], benign[rows], pairs=True, shrinkage=shrinkage)
            sets = [
                persona(one, choice.block, along)
                for name, one in looked.items()
                if name.startswith("judged-")
            ]
            areas = [cells.auroc(one.harmful, one.benign).value for one in sets]
            means.append(float(np.mean(areas)))
        found[str(pairs)] = [round(float(f(means)), 4) for f in (np.mean, np.min, np.max)]
    return found


def records(scores: Mapping[Any, Mapping[str, Scores]]) -> dict[str, dict[str, list[float | None]]]:
    """The cells of each way or block, and set, as they are written."""
    return {
        str(way): {name: list(cells.cell(found)) for name, found in sets.items()}
        for way, sets in scores.items()
    }


def shrinkages(table: Table) -> dict[str, float]:
    """What each shrinkage reaches on the split `choose` at its best block, with pairs."""
    return {
        name: round(
            max(
                choosing(sets["pairs-choose"])
                for sets in table[Way("persona", "pairs", name)].values()
            ),
            4,
        )
        for name in SHRINKAGES
    }


def _judged(
    ways: Mapping[str, Sequence[Scores]], fewer: Mapping[str, Sequence[Scores]], *, inside: bool
) -> dict[str, list[float]]:
    """The mean AUROC over the judged sets of each way, and differences from the first."""
    found = cells.compared(ways, inside=inside)
    for name, scores in fewer.items():
        found |= cells.compared({name: scores}, inside=inside)
    return {name: list(estimate) for name, estimate in found.items()}


def add(record: dict[str, Any], table: Table) -> None:
    """Put further ways to score, and what they reached, into the record of a model."""
    for name, choice in choose(table, ()).items():
        best = {name: judged(table[choice.way][choice.block])}
        record["chosen"] |= _chosen({name: choice})
        for part, inside in (("judged", False), ("judged_within", True)):
            record[part] |= _judged(best, {}, inside=inside)
        record["cells"][str(choice.way)] = records(table[choice.way])


def _chosen(choices: Mapping[str, Choice]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "way": str(choice.way),
            "block": choice.block,
            "choose": round(choice.on_choose, 4),
        }
        for name, choice in choices.items()
    }


def summary(
    table: Table, looked: Mapping[str, Looked], with_sae: Collection[int] = ()
) -> dict[str, Any]:
    """All that is written of one model: cells, what was chosen, and the judged sets together."""
    chosen = choose(table, with_sae)
    best = {name: table[choice.way][choice.block] for name, choice in chosen.items()}
    losses = {name: found for name, one in looked.items() if (found := loss(one)) is not None}
    ways = {"persona/pairs": judged(best["persona/pairs"])}
    ways |= {name: judged(sets) for name, sets in best.items() if judged(sets)}
    same_block = table[Way("persona", "rtp", SHIPPED["rtp"])][chosen["persona/pairs"].block]
    ways["persona/rtp, same block"] = judged(same_block)
    if losses:
        ways["loss"] = judged(losses)
    # Fewer rows are pushed on than looked at: those ways are not compared row by row.
    rows = [len(one.harmful) for one in ways["persona/pairs"]]
    fewer = {n: ways.pop(n) for n in list(ways) if [len(s.harmful) for s in ways[n]] != rows}
    return {
        "chosen": _chosen(chosen),
        "judged": _judged(ways, fewer, inside=False),
        "judged_within": _judged(ways, fewer, inside=True),
        "shrinkages": shrinkages(table),
        "scale": scale(looked, chosen["persona/pairs"]),
        "loss": records({"loss": losses})["loss"],
        "cells": {str(way): records(blocks) for way, blocks in table.items()},
    }
