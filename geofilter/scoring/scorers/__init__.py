"""The table of scorers. A new one is a file in this folder and a line in the table.

The command line, the estimate, the report, `explain` and `verify` read the table. Nothing
here loads torch before a score is made.
"""

from geofilter.errors import PackError
from geofilter.scoring.scorers import (
    activation,
    direction,
    influence,
    nearest,
    persona,
    projection_difference,
    spillover,
)
from geofilter.scoring.scorers.base import Scorer

SCORERS: dict[str, Scorer] = {
    one.name: one
    for one in (
        nearest.SCORER,
        direction.SCORER,
        activation.SCORER,
        persona.SCORER,
        spillover.SCORER,
        influence.SCORER,
        projection_difference.SCORER,
    )
}

# What every other scorer is compared with: it needs no SAE.
BASELINE = persona.SCORER.name


def scorer_named(name: str) -> Scorer:
    """The scorer called `name`. Raises `PackError` that lists the names there are."""
    if name not in SCORERS:
        raise PackError(f"no scorer is called {name!r}; choose one of {', '.join(SCORERS)}")
    return SCORERS[name]


def refuse_without_sae(name: str) -> None:
    """Raise `PackError` where the scorer called `name` needs an SAE, and there is no SAE."""
    if scorer_named(name).needs_sae:
        others = [one.name for one in SCORERS.values() if not one.needs_sae]
        raise PackError(
            f"{name} scores by SAE features, and without an SAE there are no features; choose "
            f"--scorer {' or '.join(others)}, or give an SAE with --sae"
        )
