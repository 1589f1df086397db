"""The feature pack: a saved set of toxic features, with all that scoring needs of them.

One safetensors file: arrays as tensors, the rest as JSON in its header; no pickle.
A pack carries the fingerprint of the model and SAE it was made with and refuses
others.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from geofilter.errors import PackError
from geofilter.model.catalogue import NO_SAE
from geofilter.packs.repository import fetch_pack
from geofilter.packs.verdicts import Label, Trial, from_record, require_numbers
from geofilter.settings import POOLINGS, Pooling
from geofilter.support.atomic import writing
from geofilter.support.display import escape, shown
from geofilter.support.notebook import html_table
from geofilter.support.pointers import refuse_pointer

if TYPE_CHECKING:
    from geofilter.model.loading import LoadedModel

Floats = NDArray[np.float32]

FORMAT = 1
# What `hf://ORG/NAME` begins with.
HUB = "hf://"
_HEADER = "geofilter_pack"
_REMEDY = "make it again with geofilter discover"

# What differs, in a user's words, by part of the fingerprint.
_PARTS = {
    "architecture": "the model's architecture",
    "weights": "the model's weights",
    "tokenizer": "the tokenizer",
    "block": "the block",
    "sae": "the SAE",
}


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """How far each toxic feature separates toxic from benign rows; every array is (k,).

    `selection_effect` is the standardised mean difference that chose it. All others
    come from rows that had no part in the choice. `*_low` and `*_high` are 95 %
    intervals; firing is the share of rows in which the latent is active.
    """

    selection_effect: Floats
    effect: Floats
    effect_low: Floats
    effect_high: Floats
    auroc: Floats
    auroc_low: Floats
    auroc_high: Floats
    toxic_firing: Floats
    toxic_firing_low: Floats
    toxic_firing_high: Floats
    benign_firing: Floats
    benign_firing_low: Floats
    benign_firing_high: Floats


@dataclass(frozen=True, slots=True)
class ContrastSummary:
    """Figures over the contrast rows that were kept for reporting.

    `persona_auroc` is that of the dense direction, with its 95 % interval. The two
    thresholds bound what was usual there: 95 % of rows explain more variance than
    `explained_variance_floor`, and hold a smaller share of unknown tokens than
    `unknown_share_ceiling` (None where the tokenizer has no unknown token). What an SAE
    explains is None where there was no SAE. `pairs_in_order` is
    the share of pairs whose toxic side lies further along the dense direction, a tie counting
    half, with its 95 % interval; None where the rows are not paired.
    """

    toxic_rows: int
    benign_rows: int
    persona_auroc: float
    persona_auroc_low: float
    persona_auroc_high: float
    explained_variance: float | None
    explained_variance_floor: float | None
    unknown_share_ceiling: float | None
    pairs_in_order: float | None = None
    pairs_in_order_low: float | None = None
    pairs_in_order_high: float | None = None

    def to_record(self) -> dict[str, float | None]:
        """In values that JSON can spell, without what is not known of other sets."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        optional = {one.name for one in fields(self) if one.default is None}
        return {k: v for k, v in values.items() if v is not None or k not in optional}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ContrastSummary":
        """The figures of a file. Raises `ValueError` or `TypeError` where they are wrong."""
        known = {
            name: value
            for name, value in record.items()
            if name not in _MAY_BE_UNKNOWN or value is not None
        }
        require_numbers(known, "its contrast rows")
        return cls(**record)


# A tokenizer may have no unknown token, a model no SAE, and rows may not be paired.
_MAY_BE_UNKNOWN = (
    "unknown_share_ceiling",
    "explained_variance",
    "explained_variance_floor",
    *(one.name for one in fields(ContrastSummary) if one.default is None),
)


# No slots and no generated equality: the digest is cached, and arrays do not compare.
@dataclass(frozen=True, eq=False)
class FeaturePack:
    """Toxic features of one SAE and the reference values that scores are made with.

    A dense pack was made without an SAE and has no features (k = 0, d_sae = 0): it holds the
    dense direction alone.

    `ids` (k,) are SAE latents, most toxic first; `directions` (k, d_model) their decoder
    directions, of length 1; `weights` (k,) are positive and sum to 1. `reference` (d_sae,)
    is φ_ref, the benign mean of the pooled latents; `benign_std` (k,) the benign standard
    deviation of the toxic ones, never 0. `dense_direction` (d_model,) has length 1 and
    points from benign to toxic. `residual_mean` (d_model,) is the mean residual stream.
    `labels` holds, per feature, the tokens that activate it most (raw: escape before showing).
    `provenance` says what the pack was made from; it enters no computation. Nor do
    `trials`, which say whether features follow harm or words (see `falsify`): they cover
    features that were left out for following words too, and are empty without `falsify`.
    """

    ids: NDArray[np.int32]
    directions: Floats
    weights: Floats
    reference: Floats
    benign_std: Floats
    dense_direction: Floats
    residual_mean: Floats
    statistics: FeatureStatistics
    contrast: ContrastSummary
    labels: tuple[tuple[str, ...], ...]
    pooling: Pooling
    model_name: str
    sae_name: str
    fingerprint: Mapping[str, str]
    provenance: Mapping[str, Any]
    trials: tuple[Trial, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        held = "the dense direction" if self.is_dense else f"{len(self)} toxic features"
        return f"<FeaturePack of {escape(self.model_name)}, block {self.block}: {held}>"

    def _repr_html_(self) -> str:
        """The ten most toxic features, for a notebook."""
        weights, areas = (map("{:.3f}".format, of) for of in (self.weights, self.statistics.auroc))
        words = map(" ".join, self.labels)
        rows = [*islice(zip(self.ids.tolist(), weights, areas, words, strict=True), 10)]
        return html_table(repr(self), ("feature", "weight", "AUROC", "active at"), rows)

    @property
    def is_dense(self) -> bool:
        """Whether it was made without an SAE, so that it holds the dense direction alone."""
        return len(self.reference) == 0

    @property
    def block(self) -> int:
        return int(self.fingerprint["block"])

    @cached_property
    def digest(self) -> str:
        """32 hex digits over all but provenance and trials: equal ones give equal scores."""
        content = replace(self, provenance={}, trials=()).to_bytes()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def made_from(self, side: str) -> str | None:
        """SHA-256 of the file of the `toxic` or `benign` rows, None where the pack does not say."""
        source = self.provenance.get(side)
        found = source.get("sha256") if isinstance(source, Mapping) else None
        return found if isinstance(found, str) else None

    @property
    def verdicts(self) -> tuple[Label, ...]:
        """For each feature whether it follows harm or words, or that it was not tried."""
        known = {trial.feature: trial.verdict for trial in self.trials}
        return tuple(known.get(int(feature), "untested") for feature in self.ids)

    def without_lexical(self) -> "FeaturePack":
        """The pack without the features that follow words; their trials stay on record.

        Raises `PackError` when none is left.
        """
        if self.is_dense:
            return self
        kept = np.flatnonzero([verdict != "lexical" for verdict in self.verdicts])
        if len(kept) == 0:
            raise PackError(
                f"each of the {len(self)} features only follows its words; give toxic rows "
                "whose harm does not lie in words, or take them all with --keep-lexical"
            )
        return self if len(kept) == len(self) else self.only(kept)

    def only(self, places: NDArray[np.int64]) -> "FeaturePack":
        """The pack with its features at `places` alone; weights keep their proportions."""
        weights = self.weights[places].astype(np.float64)
        statistics = {name: getattr(self.statistics, name)[places] for name in _STATISTICS}
        return replace(
            self,
            ids=self.ids[places],
            directions=self.directions[places],
            weights=(weights / weights.sum()).astype(np.float32),
            benign_std=self.benign_std[places],
            statistics=FeatureStatistics(**statistics),
            labels=tuple(self.labels[place] for place in places),
        )

    def to_bytes(self) -> bytes:
        """The pack as a safetensors file; equal packs give equal bytes."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"statistics.{name}": getattr(self.statistics, name) for name in _STATISTICS}
        header: dict[str, object] = {
            "format": FORMAT,
            "pooling": self.pooling,
            "model_name": self.model_name,
            "sae_name": self.sae_name,
            "fingerprint": dict(self.fingerprint),
            "labels": self.labels,
            "contrast": self.contrast.to_record(),
            "provenance": dict(self.provenance),
        }
        # Without trials a file stays, to the byte, what earlier versions wrote.
        if self.trials:
            header["trials"] = [trial.to_record() for trial in self.trials]
        text = json.dumps(header, sort_keys=True)
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        return to_safetensors(contiguous, metadata={_HEADER: text})

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the pack to `path`, whole or not at all. Raises `OutputError`."""
        content = self.to_bytes()
        with writing(path, overwrite=overwrite) as handle:
            handle.write(content)

    def verify(self, model: "LoadedModel") -> None:
        """Raise `PackError` naming the difference unless the pack was made with `model`."""
        loaded = model.fingerprint
        differing = [part for part in _PARTS if self.fingerprint.get(part) != loaded[part]]
        if not differing:
            return
        remedy = _REMEDY
        if "block" in differing:
            # Other blocks have other weights and another SAE: that says nothing more.
            differing = [part for part in differing if part not in {"block", "weights", "sae"}]
            difference = f"it reads block {self.block}, not block {model.block}"
            if not differing:
                remedy = f"ask for that block (--block {self.block}), or {_REMEDY}"
        else:
            difference = "other than loaded"
            if differing == ["sae"] and self.is_dense:
                remedy = f"load the model without one (--sae {NO_SAE}), or {_REMEDY}"
            elif differing == ["sae"] and model.sae is None:
                remedy = f"give its SAE with --sae, or {_REMEDY}"
        if differing:
            difference += ": " + ", ".join(_PARTS[part] for part in differing)
        raise PackError(
            f"the pack was made with {_pair(self.model_name, self.sae_name)} ({difference}); it "
            f"does not belong to {_pair(model.name, model.sae_name)}: {remedy}"
        )


def _pair(model: str, sae: str) -> str:
    read_by = "without an SAE" if sae == NO_SAE else f"and SAE {escape(sae)}"
    return f"{escape(model)} {read_by}"


_STATISTICS = tuple(field.name for field in fields(FeatureStatistics))
_ARRAYS = (
    "ids",
    "directions",
    "weights",
    "reference",
    "benign_std",
    "dense_direction",
    "residual_mean",
)


def load_pack(path: str | os.PathLike[str]) -> FeaturePack:
    """Read a pack from a file, or from the hub repository of `hf://ORG/NAME[@REVISION]`.

    Raises `PackError` for a missing, foreign, damaged or newer file, `ModelError` where the
    hub does not give it.
    """
    place = shown(path)
    if str(path).startswith(HUB):
        repo, _, revision = str(path).removeprefix(HUB).partition("@")
        path = fetch_pack(repo, revision or None)
    refuse_pointer(path, PackError)
    if not os.path.isfile(path):  # unlike Path.is_file, false for a name that is too long
        raise PackError(f"{place}: no such pack; make one with geofilter discover")
    try:
        with safe_open(path, framework="numpy") as handle:
            header_text = (handle.metadata() or {}).get(_HEADER)
            arrays = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        reason = escape(" ".join(str(error).split()), limit=120)
        raise PackError(f"{place}: is damaged or no feature pack ({reason}); {_REMEDY}") from error
    if header_text is None:
        raise PackError(f"{place}: is a safetensors file but no feature pack; {_REMEDY}")
    try:
        return _from_parts(json.loads(header_text), arrays)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        reason = escape(" ".join(str(error).split()), limit=120)
        raise PackError(f"{place}: is a damaged feature pack ({reason}); {_REMEDY}") from error


def _from_parts(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FeaturePack:
    """Build a pack from a file's content; any exception means that it is damaged."""
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']!r}, this version reads {FORMAT}")
    if header["pooling"] not in POOLINGS:
        raise ValueError(f"pooling {header['pooling']!r} is not one of {', '.join(POOLINGS)}")
    _check_arrays(arrays)
    if len(header["labels"]) != len(arrays["ids"]):
        raise ValueError(f"{len(header['labels'])} labels for {len(arrays['ids'])} features")
    fingerprint = {part: str(header["fingerprint"][part]) for part in _PARTS}
    int(fingerprint["block"])
    if (fingerprint["sae"] == NO_SAE) != (len(arrays["reference"]) == 0):
        raise ValueError("it holds latents of no SAE, or none of its SAE")
    statistics = {name: arrays[f"statistics.{name}"] for name in _STATISTICS}
    return FeaturePack(
        **{name: arrays[name] for name in _ARRAYS},
        statistics=FeatureStatistics(**statistics),
        contrast=ContrastSummary.from_record(header["contrast"]),
        labels=tuple(tuple(str(token) for token in tokens) for tokens in header["labels"]),
        pooling=header["pooling"],
        model_name=str(header["model_name"]),
        sae_name=str(header["sae_name"]),
        fingerprint=fingerprint,
        provenance=dict(header["provenance"]),
        trials=tuple(from_record(record) for record in header.get("trials", ())),
    )


def _check_arrays(arrays: Mapping[str, NDArray[Any]]) -> None:
    count, d_model = arrays["directions"].shape
    (d_sae,) = arrays["reference"].shape
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
        ("ids", "weights", "benign_std", *(f"statistics.{name}" for name in _STATISTICS)), (count,)
    )
    shapes |= {"directions": (count, d_model), "reference": (d_sae,)}
    shapes |= dict.fromkeys(("dense_direction", "residual_mean"), (d_model,))
    for name, shape in shapes.items():
        array = arrays[name]
        kind = np.dtype(np.int32 if name == "ids" else np.float32)
        if array.shape != shape or array.dtype != kind:
            raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, not {kind}{list(shape)}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")
    if count == 0:
        if d_sae > 0:
            raise ValueError("it holds no feature")
        return
    if not np.allclose(np.linalg.norm(arrays["directions"], axis=1), 1, atol=1e-4):
        raise ValueError("its directions are not of length 1")
    if (arrays["weights"] <= 0).any() or (arrays["benign_std"] <= 0).any():
        raise ValueError("weights and standard deviations must be positive")
    ids = arrays["ids"]
    if ids.min() < 0 or ids.max() >= d_sae or len(np.unique(ids)) < count:
        raise ValueError(f"its features are not distinct latents of 0 to {d_sae - 1}")
