"""The pipelines that `speed.py` compares, each over the same rows and the same model.

Every pipeline but `Limit` goes from the file of rows to one score per row, and all of
them compute the same score, so that their results can be compared too. This module
times nothing and prints nothing.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.rows import open_rows
from geofilter.model.loading import LoadedModel, find_blocks
from geofilter.packs.pack import FeaturePack
from geofilter.runs.engines.threads import score_file
from geofilter.scoring.score import BatchScorer
from geofilter.support.manifest import Manifest
from random_parts import encode_rows

# What most scripts do: some rows at a time, as they come, padded to the longest.
NAIVE_BATCH = 16


class Geofilter:
    """geofilter itself: from the file of rows to the finished table, the model loaded."""

    def __init__(self, model: LoadedModel, pack: FeaturePack, data: Path, encoder: Encoder) -> None:
        self.model = model
        self._scorer = BatchScorer(model, pack)
        self._data, self._encoder = data, encoder
        self.scores = np.zeros(0)

    def __call__(self) -> None:
        rows = open_rows(self._data)
        out = self._data.with_suffix(f".{self.model.block}.parquet")
        manifest = Manifest({"data": rows.fingerprint(), "block": self.model.block})
        table = score_file(rows, self._encoder, self._scorer, out, manifest, restart=True)
        self.scores = table.scores.filled(np.nan)


class Limit:
    """What cannot be avoided: the network's calls of one run of geofilter, and nothing else.

    The calls are recorded as geofilter makes them: order, padding, masks. Each is stopped
    at the output of the model's block.
    """

    def __init__(self, geofilter: Geofilter) -> None:
        self._network = geofilter.model.network
        self._block = find_blocks(self._network).blocks[geofilter.model.block]
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def record(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.calls.append((args, kwargs))

        handle = self._network.register_forward_pre_hook(record, with_kwargs=True)
        try:
            geofilter()
        finally:
            handle.remove()
        if not self.calls:
            raise SystemExit("geofilter never called the network as a module; no limit is known")

    def __call__(self) -> None:
        def stop(*_: Any) -> None:
            raise _Reached

        handle = self._block.register_forward_hook(stop)
        try:
            with torch.no_grad():
                for args, kwargs in self.calls:
                    try:
                        self._network(*args, **kwargs)
                    except _Reached:
                        continue
                    raise SystemExit("the network's forward pass never ran the block")
        finally:
            handle.remove()


class _Reached(Exception):
    """The block was reached; what follows need not run."""


class _Padded:
    """What the peers have in common: rows in file order, padded batches, mean latents, scores."""

    def __init__(self, model: LoadedModel, pack: FeaturePack, data: Path, encoder: Encoder) -> None:
        self.sae, self.block = model.sae, model.block
        self._device = model.device
        self._data, self._encoder = data, encoder
        self._reference = torch.from_numpy(pack.reference).to(model.device)
        directions = torch.from_numpy(pack.directions).to(model.device)
        unit = torch.nn.functional.normalize(model.decoder, dim=1)
        self._proximity = (unit @ directions.T).amax(dim=1)  # (d_sae,)
        self.scores = np.zeros(0)

    def __call__(self) -> None:
        samples = encode_rows(self._data, self._encoder)
        self.scores = np.concatenate(
            [
                self._score(samples[start : start + NAIVE_BATCH])
                for start in range(0, len(samples), NAIVE_BATCH)
            ]
        )

    def warm_up(self) -> None:
        """The first batch: threads, caches and lazy parts."""
        self._score(encode_rows(self._data, self._encoder)[:NAIVE_BATCH])

    @torch.no_grad()
    def _score(self, batch: Sequence[Encoded]) -> np.ndarray:
        longest = max(len(sample.ids) for sample in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sample in enumerate(batch):
            ids[row, : len(sample.ids)] = torch.as_tensor(sample.ids)
            mask[row, : len(sample.ids)] = 1
        pooled = self._latents(ids.to(self._device), mask.to(self._device), batch)
        excess = (pooled - self._reference).clamp(min=0)
        return ((excess @ self._proximity) / excess.sum(dim=1)).cpu().numpy()

    def _latents(
        self, ids: torch.Tensor, mask: torch.Tensor, batch: Sequence[Encoded]
    ) -> torch.Tensor:
        """Mean latents over the pooled tokens of each sample, (batch, d_sae)."""
        raise NotImplementedError


class Naive(_Padded):
    """The whole model with all hidden states, then sae-lens on the response tokens."""

    def __init__(self, whole: Any, *setting: Any) -> None:
        super().__init__(*setting)
        self._whole = whole

    def _latents(
        self, ids: torch.Tensor, mask: torch.Tensor, batch: Sequence[Encoded]
    ) -> torch.Tensor:
        output = self._whole(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        hidden = output.hidden_states[self.block + 1]
        rows = [
            self.sae.encode(hidden[row, _places(sample, hidden)].float()).mean(dim=0)
            for row, sample in enumerate(batch)
        ]
        return torch.stack(rows)


class Bridge(_Padded):
    """sae-lens's own: a SAETransformerBridge that caches the latents of the spliced SAE.

    With `stopped`, it runs no block after the SAE's, which is a thing one has to know of.
    """

    def __init__(self, bridge: Any, stopped: bool, *setting: Any) -> None:
        super().__init__(*setting)
        self._bridge = bridge
        self._name = bridge.get_sae_hook_name(self.sae)
        self._options = {"stop_at_layer": self.block + 1} if stopped else {}

    def _latents(
        self, ids: torch.Tensor, mask: torch.Tensor, batch: Sequence[Encoded]
    ) -> torch.Tensor:
        _, cache = self._bridge.run_with_cache_with_saes(
            ids,
            attention_mask=mask,
            saes=[self.sae],
            names_filter=[self._name],
            **self._options,
        )
        latents = cache[self._name]
        rows = [
            latents[row, _places(sample, latents)].mean(dim=0) for row, sample in enumerate(batch)
        ]
        return torch.stack(rows)


def _places(sample: Encoded, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.flatnonzero(sample.pooled)).to(like.device)


def whole_model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return network.eval().requires_grad_(False)


def saes_bridge(folder: Path) -> Any:
    from sae_lens import SAETransformerBridge

    return SAETransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32)


def bergson_build(python: str, model: Path, data: Path, folder: Path) -> dict[str, Any]:
    """What `bergson_peer.py` says of one run, under the Python of bergson's environment."""
    script = Path(__file__).with_name("bergson_peer.py")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "datasets")}
    command = [python, str(script), str(model), str(data), str(folder)]
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bergson failed:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
