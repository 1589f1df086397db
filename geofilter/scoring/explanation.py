"""A score, divided among the tokens of its row."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenLatent:
    """One latent at one token.

    `proximity` is that of the score. `toxic_feature` is the toxic feature nearest to its
    decoder direction, at cosine `similarity`, with the pack's `label` (raw: escape it).
    `contribution` is its part of the sample's score.
    """

    feature: int
    activation: float
    proximity: float
    toxic_feature: int
    similarity: float
    label: tuple[str, ...]
    contribution: float


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """One token: its place in the sample's ids, its text (raw), what it activated.

    `contribution` is its part of the score. `latents` are those that contribute most; a score
    that is not made of latents has none.
    """

    position: int
    text: str
    contribution: float
    latents: tuple[TokenLatent, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score, higher nearer to harm, as `base` and a sum over tokens.

    Over the pooled tokens of the response or, where `whole_conversation`, over all tokens of
    the window. `base` is what the score of any response to the prompt begins with, and no
    token's doing; `base_of` says in words what its score is.
    """

    score: float
    tokens: tuple[ExplainedToken, ...]
    whole_conversation: bool = False
    base: float = 0.0
    base_of: str = "the contrast rows' mean activation"
