"""`direction`: which way the response as a whole points, and how near that is to a toxic one."""

from geofilter.scoring.scorers.base import Evidence, Floats64, Scorer, excess


def _rule(evidence: Evidence) -> tuple[float, Floats64]:
    """The greatest cosine of Σ_f (φ − φ_ref)_f W_dec[f] to a toxic direction, in [-1, 1].

    Higher is nearer to harm.
    """
    sample, index = evidence.sample, evidence.index
    overlap = index.overlap(sample.latents, evidence.nearest)
    return evidence.similarity, excess(sample, index.pack) * overlap


SCORER = Scorer(
    name="direction",
    about="greatest cosine of what the response adds to benign text to a toxic feature",
    rule=_rule,
)
