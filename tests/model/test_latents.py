"""Sparse encoding gives what sae-lens's own encoding gives, whichever way it takes."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig, StandardSAE, StandardSAEConfig

from geofilter.model import latents as module
from geofilter.model import saes
from geofilter.model.latents import LatentEncoder, _Screen

D_MODEL, D_SAE = 48, 512


def random_sae(
    seed: int = 0,
    *,
    architecture: str = "jumprelu",
    normalised: str = "none",
    centred: bool = True,
) -> StandardSAE | JumpReLUSAE:
    """A few latents in a thousand fire at a standard normal input."""
    kinds = {
        "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig),
        "standard": (StandardSAE, StandardSAEConfig),
    }
    sae_class, config_class = kinds[architecture]
    config = config_class(
        d_in=D_MODEL,
        d_sae=D_SAE,
        device="cpu",
        dtype="float32",
        apply_b_dec_to_input=centred,
        normalize_activations=normalised,
    )
    sae = sae_class(config)
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(D_SAE, D_MODEL, generator=random)
    rows *= torch.rand(D_SAE, 1, generator=random) * 3
    norms = rows.norm(dim=1)
    sae.W_enc.data = rows.t().contiguous()
    sae.W_dec.data = rows / norms[:, None]
    sae.b_dec.data = torch.randn(D_MODEL, generator=random) * 0.1
    if architecture == "jumprelu":
        sae.b_enc.data = torch.randn(D_SAE, generator=random) * 0.1
        sae.threshold.data = norms * 3.0 - torch.rand(D_SAE, generator=random) * 0.1
    else:
        sae.b_enc.data = -3.0 * norms
    sae.requires_grad_(False)
    return sae


def dense(parts, tokens):
    """The whole matrix of latents and the reconstructions, from an encoder's parts."""
    latents, rebuilt = torch.zeros(tokens, D_SAE), torch.zeros(tokens, D_MODEL)
    seen = []
    for part, found in parts:
        assert (found.token.diff() >= 0).all()
        assert (found.value > 0).all()
        latents[part[found.token], found.latent] = found.value
        rebuilt[part] = found.reconstruction
        seen += part.tolist()
    assert sorted(seen) == list(range(tokens))
    return latents, rebuilt


@pytest.fixture(params=[True, False], ids=["screened", "dense"])
def screens(request, monkeypatch):
    """Whether the encoder screens, whatever this processor and this size would have it do."""
    monkeypatch.setattr(module, "_can_screen", lambda sae: request.param)
    return request.param


@pytest.mark.parametrize("normalised", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "jumprelu"])
def test_latents_and_reconstruction_are_those_of_sae_lens(
    screens, architecture, centred, normalised, monkeypatch
):
    monkeypatch.setattr(module, "_CPU_AT_ONCE", 7 * D_SAE)
    sae = random_sae(architecture=architecture, centred=centred, normalised=normalised)
    hidden = torch.randn(40, D_MODEL, generator=torch.Generator().manual_seed(1))
    hidden *= torch.linspace(0.1, 1.8, 40)[:, None]
    expected = sae.encode(hidden)
    rebuilt = sae.decode(expected)
    encoder = LatentEncoder(sae, saes.decoder(sae))
    if screens:
        assert encoder._screen.firing(sae.process_sae_in(hidden)) is not None
    latents, reconstruction = dense(encoder.encode(hidden), len(hidden))
    assert (expected > 0).sum() > 10
    torch.testing.assert_close(latents, expected, atol=3e-5, rtol=1e-5)
    torch.testing.assert_close(reconstruction, rebuilt, atol=1e-5, rtol=1e-5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    scale=st.floats(1e-3, 1e3),
    outlier=st.floats(1, 1e4),
    margin=st.sampled_from([1e-6, 1e-5, 1e-4, 1e-3]),
)
def test_screen_never_loses_a_latent_that_fires(seed, scale, outlier, margin):
    """Each latent's threshold lies just below its activation at some token."""
    sae = random_sae(seed)
    random = torch.Generator().manual_seed(seed + 1)
    inputs = torch.randn(24, D_MODEL, generator=random) * scale
    inputs[:, 3] *= outlier
    before = inputs.double() @ sae.W_enc.double() + sae.b_enc.double()
    # Of each latent, the two tokens where it is greatest: few fire, all of them narrowly.
    least = before.topk(2, dim=0).values[1]
    # In units of what float32 sums lose: less than that nobody can tell.
    lost = 2e-6 * inputs.norm(dim=1).max() * sae.W_enc.norm(dim=0)
    sae.threshold.data = (least - lost - margin * least.abs()).float()
    token, latent = _Screen(sae)._candidates(inputs)
    found = torch.zeros(before.shape, dtype=torch.bool)
    found[token, latent] = True
    fires = (before > sae.threshold.double()) & (before > 0)
    assert not (fires & ~found).any()


def test_screen_keeps_a_latent_that_reads_only_what_rounding_loses():
    """The bound is met here: every latent points along what bfloat16 drops of one token."""
    random = torch.Generator().manual_seed(3)
    inputs = torch.randn(8, D_MODEL, generator=random)
    lost = inputs - inputs.to(torch.bfloat16).float()
    kept = inputs - lost
    along = lost - (lost * kept).sum(1, keepdim=True) / kept.square().sum(1, keepdim=True) * kept
    sae = random_sae()
    sae.b_enc.data.zero_()
    sae.threshold.data[:] = 1e9
    sae.W_enc.data[:, :8] = (along / along.norm(dim=1, keepdim=True)).t()
    before = (inputs.double() @ sae.W_enc.double())[:, :8].diagonal()
    sae.threshold.data[:8] = 0.98 * before.float()
    token, latent = _Screen(sae)._candidates(inputs)
    assert {(i, i) for i in range(8)} <= set(zip(token.tolist(), latent.tolist(), strict=True))


def test_screen_leaves_out_nearly_all_that_does_not_fire():
    sae = random_sae()
    hidden = torch.randn(200, D_MODEL, generator=torch.Generator().manual_seed(1))
    token, _ = _Screen(sae)._candidates(sae.process_sae_in(hidden))
    assert (sae.encode(hidden) > 0).sum() <= len(token) < 1.3 * (sae.encode(hidden) > 0).sum()


def test_latents_without_weights_fire_everywhere_or_nowhere(monkeypatch):
    monkeypatch.setattr(module, "_can_screen", lambda sae: True)
    sae = random_sae()
    sae.W_enc.data[:, :3] = 0
    sae.b_enc.data[:3] = torch.tensor([1.0, -1.0, 0.5])
    sae.threshold.data[:3] = torch.tensor([0.5, 0.0, 0.5])
    hidden = torch.randn(9, D_MODEL)
    latents, _ = dense(LatentEncoder(sae, saes.decoder(sae)).encode(hidden), 9)
    np.testing.assert_array_equal(latents[:, :3], np.tile([1.0, 0.0, 0.0], (9, 1)))


def test_dense_latents_are_encoded_all_the_same(screens):
    """Half of all latents fire: far too many for a screen to be of use."""
    sae = random_sae(architecture="standard")
    sae.b_enc.data.zero_()
    hidden = torch.randn(9, D_MODEL, generator=torch.Generator().manual_seed(1))
    encoder = LatentEncoder(sae, saes.decoder(sae))
    latents, _ = dense(encoder.encode(hidden), 9)
    torch.testing.assert_close(latents, sae.encode(hidden), atol=1e-5, rtol=1e-5)


def test_token_without_any_latent_is_rebuilt_as_the_bias(screens):
    sae = random_sae()
    sae.threshold.data[:] = 1e9
    encoder = LatentEncoder(sae, saes.decoder(sae))
    latents, rebuilt = dense(encoder.encode(torch.randn(5, D_MODEL)), 5)
    assert not latents.any()
    torch.testing.assert_close(rebuilt, sae.b_dec.expand(5, -1))


def test_no_tokens(screens):
    sae = random_sae()
    assert not list(LatentEncoder(sae, saes.decoder(sae)).encode(torch.zeros(0, D_MODEL)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_token_that_is_not_finite_fires_nowhere_and_silences_no_other(screens, value):
    sae = random_sae()
    hidden = torch.randn(12, D_MODEL, generator=torch.Generator().manual_seed(1))
    expected = sae.encode(hidden)
    hidden[5, 3] = value
    latents, rebuilt = dense(LatentEncoder(sae, saes.decoder(sae)).encode(hidden), 12)
    others = torch.arange(12) != 5
    assert (expected[others] > 0).any()
    torch.testing.assert_close(latents[others], expected[others], atol=3e-5, rtol=1e-5)
    assert rebuilt[others].isfinite().all()
    assert not latents[5].any()
    assert rebuilt[5].isnan().all()
