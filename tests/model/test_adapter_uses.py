"""An adapter's folder goes wherever a model goes, and does there what the merged model does."""

from pathlib import Path

import numpy as np
import pytest

from geofilter.data.samples import Turn
from geofilter.integrations.alarm import HarmAlarm
from geofilter.model.causal import load_causal
from geofilter.packs.discover import discover
from geofilter.packs.pack import FeaturePack
from geofilter.runs.replies import LocalWriter
from geofilter.selection.replacing import Ask
from geofilter.settings import Settings
from helpers.adapters import save_both

pytestmark = pytest.mark.slow

PROMPTS = ("w5 w9", "w30 w31 w32", "w12")


@pytest.fixture(scope="module")
def folder(scored_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the tiny model: `base`, `adapter` and `merged`; and contrast rows."""
    folder = tmp_path_factory.mktemp("adapter")
    for name, place in {"model": "base", **{f"{x}.jsonl": f"{x}.jsonl" for x in _SETS}}.items():
        (folder / place).symlink_to(scored_folder / name)
    places = (folder / name for name in ("base", "adapter", "merged"))
    save_both(*places, "layers.0.self_attn.o_proj", size=1.0)
    return folder


_SETS = ("toxic", "benign")


def found(folder: Path, model: str) -> FeaturePack:
    sets = (str(folder / f"{name}.jsonl") for name in _SETS)
    place = folder / f"{model}.pack"
    return discover(
        *sets, str(folder / model), place, sae="none", block=1, device="cpu", overwrite=True
    ).pack


def test_a_pack_is_that_of_the_merged_model_and_an_alarm_reads_with_it(folder: Path) -> None:
    packs = {name: found(folder, name) for name in ("base", "adapter", "merged")}
    dense = {name: pack.dense_direction for name, pack in packs.items()}
    np.testing.assert_allclose(dense["adapter"], dense["merged"], rtol=1e-4, atol=1e-5)
    assert not np.allclose(dense["adapter"], dense["base"], atol=1e-3)
    readings = {}
    for name in ("adapter", "merged"):
        settings = Settings(
            str(folder / name), sae="none", block=1, pack=str(folder / "adapter.pack"), device="cpu"
        )
        alarm = HarmAlarm(settings, prompts=PROMPTS, max_new_tokens=3)
        readings[name] = alarm._reader.read(*load_causal(settings.model, device="cpu", dtype=None))
    assert readings["adapter"].answers == readings["merged"].answers
    assert readings["adapter"].projections == pytest.approx(readings["merged"].projections, 1e-3)


def test_responses_are_written_by_the_adapter(folder: Path) -> None:
    asks = [Ask(row, (Turn("user", prompt),)) for row, prompt in enumerate(PROMPTS)]
    replies = {
        name: dict(LocalWriter(str(folder / name), max_new_tokens=6)(asks, 0, {0, 1, 2}))
        for name in ("base", "adapter", "merged")
    }
    assert replies["adapter"] == replies["merged"] != replies["base"]
    said = {name: LocalWriter(str(folder / name)).describe() for name in ("base", "adapter")}
    assert said["base"] != said["adapter"]
