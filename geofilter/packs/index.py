"""The FAISS index of toxic directions, and the proximity of every decoder direction.

Built once from a pack and a decoder and shared by all scorers; after that, neither
model nor SAE is needed.
"""

from typing import NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from geofilter.errors import PackError
from geofilter.packs.pack import FeaturePack
from geofilter.settings import PROXIMITIES, Proximity

Floats = NDArray[np.float32]

# Decoder rows handled at once: bounds memory at 131k latents.
_ROWS = 16384


class Nearest(NamedTuple):
    """The toxic direction nearest to each vector.

    `place` (n,) is its place in the pack, `similarity` (n,) the cosine in [-1, 1]. A
    vector of length 0 points nowhere, and without toxic directions each does: place -1,
    similarity NaN.
    """

    place: NDArray[np.int64]
    similarity: Floats


class ToxicIndex:
    """Cosines between toxic directions and anything that lives in the residual stream.

    Of a dense pack nothing is near to anything: it has no toxic direction.

    `proximity["nearest"][f]` is the greatest cosine of decoder direction f to a toxic
    direction, `proximity["mean"][f]` the pack-weighted mean cosine over all of them;
    (d_sae,) each, in [-1, 1]. `dense_overlap` (d_sae,) is ⟨W_dec[f], dense direction⟩,
    `decoded_reference` (d_model,) is Σ_f φ_ref,f W_dec[f].
    """

    def __init__(self, pack: FeaturePack, decoder: torch.Tensor) -> None:
        """`decoder` is `LoadedModel.decoder`, (d_sae, d_model). Raises `PackError` on misfit."""
        d_sae, d_model = decoder.shape
        if len(pack.reference) != d_sae or pack.directions.shape[1] != d_model:
            raise PackError(
                f"the pack is for an SAE of {len(pack.reference)} latents over "
                f"{pack.directions.shape[1]} dimensions, this one has {d_sae} over {d_model}"
            )
        self.pack = pack
        self._decoder = decoder
        self._index = faiss.IndexFlatIP(d_model)
        self._index.add(np.ascontiguousarray(pack.directions))
        mean_direction = pack.directions.T @ pack.weights
        if not pack.is_dense:
            mean_direction /= pack.weights.sum()

        self.proximity: dict[Proximity, Floats] = {
            form: np.zeros(d_sae, np.float32) for form in PROXIMITIES
        }
        self.dense_overlap = np.zeros(d_sae, np.float32)
        decoded_reference = np.zeros(d_model, np.float64)
        for start in range(0, d_sae, _ROWS):
            part = slice(start, start + _ROWS)
            rows = decoder[part].detach().float().cpu().numpy()
            units = _unit(rows)
            # A latent that writes nothing is near to nothing.
            self.proximity["nearest"][part] = np.nan_to_num(self._nearest_unit(units).similarity)
            self.proximity["mean"][part] = units @ mean_direction
            self.dense_overlap[part] = rows @ pack.dense_direction
            decoded_reference += pack.reference[part].astype(np.float64) @ rows
        self.decoded_reference: Floats = decoded_reference.astype(np.float32)

    def overlap(self, latents: NDArray[np.int32], place: int) -> Floats:
        """⟨W_dec[f], toxic direction `place`⟩ for each of `latents`, (n,)."""
        # Per sample, not for all at once: (d_sae, k) may be gigabytes.
        overlap: Floats = self._decoder_rows(latents) @ self.pack.directions[place]
        return overlap

    def nearest_of_latents(self, latents: NDArray[np.int32]) -> Nearest:
        """The toxic direction nearest to the decoder direction of each latent."""
        return self.nearest(self._decoder_rows(latents))

    def _decoder_rows(self, latents: NDArray[np.int32]) -> Floats:
        wanted = torch.as_tensor(latents, dtype=torch.long, device=self._decoder.device)
        rows: Floats = self._decoder[wanted].detach().float().cpu().numpy()
        return rows

    def nearest(self, vectors: Floats) -> Nearest:
        """The toxic direction nearest to each of `vectors`, (n, d_model), of any length."""
        return self._nearest_unit(_unit(vectors))

    def _nearest_unit(self, units: Floats) -> Nearest:
        similarity, place = self._index.search(np.ascontiguousarray(units), 1)
        nowhere = ~units.any(axis=1) | (place[:, 0] < 0)
        return Nearest(
            np.where(nowhere, -1, place[:, 0]),
            np.where(nowhere, np.float32(np.nan), np.clip(similarity[:, 0], -1, 1)),
        )


def _unit(vectors: Floats) -> Floats:
    """`vectors` scaled to length 1; those of length 0 stay 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # The square of a small float32 may be 0, and that of a large one infinite.
    odd = ~((lengths > 1e-15) & np.isfinite(lengths))[:, 0]
    lengths[odd] = np.linalg.norm(vectors[odd].astype(np.float64), axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    unit: Floats = vectors / lengths
    return unit
