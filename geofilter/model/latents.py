"""SAE latents of residual streams, as the few that fire rather than all of them.

The result is what sae-lens computes, to float32 rounding. Where the hardware is fast
in bfloat16 and each latent fires by itself (ReLU, JumpReLU), a bfloat16 product first
says which latents cannot fire: its error is bounded for every token and latent, and
only what lies within the bound of its threshold, or above, is computed in float32.
"""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

# Pre-activations held at once, (tokens, d_sae). Few enough on a CPU to stay in its caches.
_CPU_AT_ONCE = 2**23
_GPU_AT_ONCE = 2**27

# Below this many latents a dense product costs little, and finding candidates is no gain.
_FEWEST_TO_SCREEN = 4096
# Where more than this share of latents are candidates, the dense product is cheaper.
_MOST_CANDIDATES = 1 / 32

# Half a unit in the last place of bfloat16, relative: what rounding to it may lose.
_BFLOAT16 = 2.0**-9


class Latents(NamedTuple):
    """The latents that fire at some tokens: one entry per token and latent.

    `token` (n,) int64 counts from 0 and ascends, `latent` (n,) int64, `value` (n,)
    float32 and positive. `reconstruction` (tokens, d_model) is the SAE's output ĥ.
    A token that is not finite fires nowhere, and its reconstruction is NaN.
    """

    token: torch.Tensor
    latent: torch.Tensor
    value: torch.Tensor
    reconstruction: torch.Tensor


class LatentEncoder:
    """Encodes residual streams with one SAE; made once per SAE, since it prepares weights."""

    def __init__(self, sae: Any, decoder: torch.Tensor) -> None:
        """`decoder` is `saes.decoder(sae)`, (d_sae, d_model)."""
        self._sae = sae
        self._decoder = decoder
        self._screen = _Screen(sae) if _can_screen(sae) else None
        per_token = int(sae.cfg.d_sae)
        at_once = _CPU_AT_ONCE if decoder.device.type == "cpu" else _GPU_AT_ONCE
        self._step = max(1, at_once // per_token)

    def encode(self, hidden: torch.Tensor) -> Iterator[tuple[torch.Tensor, Latents]]:
        """Yield parts of `hidden`, (tokens, d_model), and the latents of each.

        A part is the places (int64) of its tokens in `hidden`. The parts hold every token
        once; `Latents.token` counts within the part.
        """
        # Sorted: the bound of a part is that of its token of greatest norm.
        order = hidden.float().norm(dim=-1).argsort(descending=True, stable=True)
        # NaN in a bound would silence all tokens of a part.
        finite = torch.isfinite(hidden).all(dim=-1)[order]
        if not finite.all():
            yield order[~finite], _silent(hidden[order[~finite]])
            order = order[finite]
        for part in order.split(self._step) if len(order) else ():
            yield part, self._encode(hidden[part].to(self._sae.dtype))

    def _encode(self, hidden: torch.Tensor) -> Latents:
        # Calls of its own: run-time normalisation keeps its constants from here to `out`.
        inputs = self._sae.process_sae_in(hidden)  # (tokens, d_model)
        firing = self._screen.firing(inputs) if self._screen else None
        if firing is None:
            firing = _dense(self._sae, hidden)
        token, latent, value = firing
        start = torch.searchsorted(token, torch.arange(len(hidden), device=token.device))
        rebuilt = torch.nn.functional.embedding_bag(
            latent, self._decoder, start, mode="sum", per_sample_weights=value
        )
        rebuilt = self._sae.run_time_activation_norm_fn_out(rebuilt + self._sae.b_dec)
        return Latents(token, latent, value, rebuilt)


def _silent(hidden: torch.Tensor) -> Latents:
    """The latents of tokens, (tokens, d_model), that hold NaN or infinity."""
    none = torch.zeros(0, dtype=torch.long, device=hidden.device)
    return Latents(none, none, none.float(), torch.full_like(hidden.float(), torch.nan))


_Firing = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _dense(sae: Any, hidden: torch.Tensor) -> _Firing:
    """Token, latent and value of every latent that fires, by sae-lens's own encoding."""
    latents = sae.encode(hidden).float()  # (tokens, d_sae)
    token, latent = latents.nonzero(as_tuple=True)
    return token, latent, latents[token, latent]


def _can_screen(sae: Any) -> bool:
    if sae.cfg.architecture() not in {"standard", "jumprelu"}:
        return False
    if sae.cfg.d_sae < _FEWEST_TO_SCREEN or sae.W_enc.dtype != torch.float32:
        return False
    if sae.W_enc.device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return sae.W_enc.device.type == "cuda" and bool(torch.cuda.is_bf16_supported(False))


class _Screen:
    """The latents of an SAE that can fire, from a product in bfloat16.

    Latent f fires at x when w_f·x > τ_f, that is, with unit rows ŵ_f = w_f / |w_f|, when
    ŵ_f·x > τ_f / |w_f|. With r() rounding to bfloat16,

        |ŵ_f·x − r(ŵ_f)·r(x)| <= |x − r(x)| + |ŵ_f − r(ŵ_f)| |r(x)|,

    by Cauchy and Schwarz, to which the rounding of the sums is added.
    """

    def __init__(self, sae: Any) -> None:
        # Rows of the encoder contiguous in memory, for the exact products; in place, so
        # that there is no second copy of what may be gigabytes.
        sae.W_enc.data = sae.W_enc.data.t().contiguous().t()
        self._weights = sae.W_enc.detach()  # (d_model, d_sae), columns contiguous
        self._bias = sae.b_enc.detach()
        # The product needs the sparse layout that torch still announces as beta, once.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.zeros(1, 1).to_sparse_csr()
        threshold = torch.zeros_like(self._bias)
        if sae.cfg.architecture() == "jumprelu":
            threshold = sae.threshold.detach().clamp(min=0)
        self._threshold = threshold

        rows = self._weights.t()
        norms = rows.norm(dim=1)
        self._rounded = torch.empty_like(rows, dtype=torch.bfloat16)
        lost = 0.0
        for start in range(0, len(rows), _FEWEST_TO_SCREEN):
            part = slice(start, start + _FEWEST_TO_SCREEN)
            unit = rows[part] / norms[part, None].clamp(min=torch.finfo(torch.float32).tiny)
            self._rounded[part] = unit
            lost = max(lost, float((unit - self._rounded[part].float()).norm(dim=1).max()))
        # Both this product and the exact one round each of d sums by 2^-24 at most.
        self._relative = lost + rows.shape[1] * 2.0**-23
        # A latent without weights fires everywhere or nowhere.
        limit = (threshold - self._bias) / norms
        self._limit = limit.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)

    def firing(self, inputs: torch.Tensor) -> _Firing | None:
        """What fires at `inputs`, (tokens, d_model); None where a dense product is cheaper."""
        token, latent = self._candidates(inputs)
        if len(token) > len(inputs) * len(self._bias) * _MOST_CANDIDATES:
            return None
        value = self._exact(inputs, token, latent)
        fires = value > self._threshold[latent]
        return token[fires], latent[fires], value[fires]

    def _candidates(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and latents that may fire: all that do, and few others."""
        rounded = inputs.to(torch.bfloat16)
        lost = (inputs - rounded.float()).norm(dim=1)
        margins = lost + self._relative * (inputs.norm(dim=1) + lost)
        # The norms are rounded too.
        least = self._limit - 1.001 * margins.max()
        if inputs.device.type == "cuda":
            products = torch.mm(rounded, self._rounded.t(), out_dtype=torch.float32)
        else:
            products = torch.mm(rounded, self._rounded.t())
            # The products and their limits are rounded to bfloat16 themselves.
            least = (least - 4 * _BFLOAT16 * least.abs()).to(torch.bfloat16)
        return _where(products > least)

    def _exact(
        self, inputs: torch.Tensor, token: torch.Tensor, latent: torch.Tensor
    ) -> torch.Tensor:
        """w_f·x + b_f in float32 for each pair of a token and a latent, (n,)."""
        start = torch.searchsorted(token, torch.arange(len(inputs) + 1, device=token.device))
        pairs = torch.sparse_csr_tensor(
            start,
            latent,
            torch.zeros(len(latent), device=inputs.device),
            size=(len(inputs), self._weights.shape[1]),
            check_invariants=False,
        )
        products = torch.sparse.sampled_addmm(pairs, inputs, self._weights, beta=0)
        value: torch.Tensor = products.values() + self._bias[latent]
        return value


def _where(flags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of the true elements of a (rows, columns) tensor, by row."""
    columns = flags.shape[1]
    if columns % 8 or flags.device.type != "cpu":
        row, column = flags.nonzero(as_tuple=True)
        return row, column
    # Nearly all is false: look at eight flags at a time, then into the few that are not.
    words = flags.view(torch.int64).view(-1).nonzero().squeeze(1)
    word, place = flags.view(-1, 8)[words].nonzero(as_tuple=True)
    flat = words[word] * 8 + place
    return flat // columns, flat % columns
