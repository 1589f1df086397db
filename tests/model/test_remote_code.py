"""A model's own code runs when the user says so, and never because a file says so."""

import json
from pathlib import Path

import pytest

from helpers.cli_folder import Geofilter

OWN_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({marker!r}).touch()


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def marker(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the model's code makes when it runs; `model` comes with such code."""
    path = work / "it-ran"
    (work / "model" / "own.py").write_text(OWN_CODE.format(marker=str(path)))
    config = json.loads((work / "model" / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (work / "model" / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(work / "modules"))
    return path


def test_own_code_runs_only_with_the_flag(geofilter: Geofilter, marker: Path) -> None:
    made = "--model model --sae sae"
    discover = f"discover --toxic toxic.jsonl --benign benign.jsonl -o own.pack {made}"
    score = f"score data.jsonl --pack own.pack -o own.parquet {made}"
    explain = "explain data.jsonl --scores own.parquet --row 3"

    refused = geofilter(discover)
    assert refused.code == 2
    assert "--trust-remote-code" in refused.err
    assert not marker.exists()

    for command in (discover, score):
        done = geofilter(f"{command} --trust-remote-code")
        assert done.code == 0, done.err
    assert marker.exists()

    # The table says how it was made, flag and all; that allows nothing.
    marker.unlink()
    refused = geofilter(explain)
    assert refused.code == 2
    assert "--trust-remote-code" in refused.err
    assert not marker.exists()
    assert geofilter(f"{explain} --trust-remote-code").code == 0
