"""What decides how SAEs are trained: sizes, steps and their defaults."""

from dataclasses import dataclass

from geofilter.errors import ModelError

# Latents for each dimension of the residual stream.
_WIDTH = 4
# Tokens that are read, and token visits that are trained on, for each latent.
_TOKENS, _VISITS = 500, 1500
# A token that is seen more often than this is learnt by heart.
_MOST_PASSES = 12
# Fewer tokens than this for each latent leave most of them unused.
FEWEST_TOKENS = 10
# Steps that a small run takes, and tokens in one step.
_STEPS, _SMALLEST, _LARGEST = 1000, 64, 2048
# Latents that fire at a token: in a wider residual stream there is more to say.
_FEW, _MANY, _WIDE = 32, 64, 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """How SAEs are trained; equal plans on equal rows give equal SAEs.

    `latents` and `active`: the SAE's width and how many latents fire at a token. `tokens`: at
    most so many are read. `passes`: how often each is seen; None: as often as the latents need.
    `buffer_mb`: megabytes of residual streams that are kept and shuffled at once.
    """

    latents: int
    active: int
    tokens: int
    passes: int | None = None
    learning_rate: float = 0.0
    max_length: int = 512
    buffer_mb: int = 2048
    seed: int = 0

    def passes_over(self, tokens: int) -> int:
        """How often each of `tokens` is seen."""
        wanted = -(-_VISITS * self.latents // max(tokens, 1))
        return self.passes or max(1, min(_MOST_PASSES, wanted))

    def batch_of(self, tokens: int) -> int:
        """Tokens in one step: fewer where there are few, so that a small run has its steps too."""
        return max(_SMALLEST, min(_LARGEST, self.passes_over(tokens) * tokens // _STEPS))

    def require(self, tokens: int, source: str) -> None:
        """Raise `ModelError` where `tokens` are too few to train on."""
        needed = max(FEWEST_TOKENS * self.latents, 2 * _SMALLEST)
        if tokens < needed:
            fitting = tokens // FEWEST_TOKENS
            remedy = (
                f"give more rows, or --latents {fitting}" if fitting >= 64 else "give more rows"
            )
            raise ModelError(
                f"{source}: {tokens:,} tokens, at least {needed:,} are needed to train "
                f"{self.latents:,} latents; {remedy}"
            )


def default_plan(
    d_model: int,
    *,
    latents: int | None = None,
    active: int | None = None,
    tokens: int | None = None,
    passes: int | None = None,
    buffer_mb: int = 2048,
    max_length: int = 512,
    seed: int = 0,
) -> Plan:
    """A plan for a residual stream of `d_model` dimensions; what is None takes its default.

    Raises `ModelError` for more active latents than there are.
    """
    latents = latents or _WIDTH * d_model
    active = active or min(_MANY if d_model > _WIDE else _FEW, latents)
    if active > latents:
        raise ModelError(f"--k {active}: more than the SAE's {latents} latents; choose fewer")
    tokens = tokens or _TOKENS * latents
    return Plan(
        latents=latents,
        active=active,
        tokens=tokens,
        passes=passes,
        # Wider SAEs want smaller steps (Gao et al. 2024).
        learning_rate=1e-3 * (2304 / latents) ** 0.5,
        max_length=max_length,
        buffer_mb=buffer_mb,
        seed=seed,
    )
