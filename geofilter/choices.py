"""The words that a user chooses by: scorers, forms of proximity, precisions.

Apart from the modules that carry them out, which load torch, so that a command line or a
policy can list them at once. This module knows nothing about what they mean.
"""

from typing import Literal

ScorerName = str
# Those that need no more than the blocks up to the SAE's; `persona` is the dense baseline.
FORWARD_SCORERS: tuple[ScorerName, ...] = ("nearest", "direction", "activation", "persona")
SCORERS: tuple[ScorerName, ...] = (*FORWARD_SCORERS, "spillover")

Proximity = Literal["mean", "nearest"]
PROXIMITIES: tuple[Proximity, ...] = ("mean", "nearest")

DTYPES = ("float32", "bfloat16")
