"""`activation`: how active the toxic features themselves are in the response."""

import numpy as np

from geofilter.scoring.scorers.base import Evidence, Floats64, Scorer


def _rule(evidence: Evidence) -> tuple[float, Floats64]:
    """Σ_k w_k (φ_k − φ_ref,k) / σ_k over toxic latents, higher nearer to harm, unbounded.

    In benign standard deviations: 0 is a typical benign sample.
    """
    sample, pack = evidence.sample, evidence.index.pack
    benign_mean = pack.reference[pack.ids].astype(np.float64)
    scale = pack.weights.astype(np.float64) / pack.benign_std
    place = np.searchsorted(sample.latents, pack.ids)
    place[place == len(sample.latents)] = 0
    active = np.zeros(len(pack), bool)
    if len(sample.latents):
        active = sample.latents[place] == pack.ids
    phi = np.zeros(len(pack))
    phi[active] = sample.weights[place[active]]
    terms = scale * (phi - benign_mean)
    parts = np.zeros(len(sample.latents))
    parts[place[active]] = terms[active]
    return float(terms.sum()), parts


SCORER = Scorer(
    name="activation",
    about="activation of the toxic features themselves, in benign standard deviations",
    rule=_rule,
)
