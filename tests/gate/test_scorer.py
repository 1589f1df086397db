"""What a policy names is what the gate loads: no folder of a repository passes for a name."""

import json
import shutil
from pathlib import Path

import pytest

from geofilter.data.rows import open_rows
from geofilter.errors import PolicyError
from geofilter.gate import scorer
from geofilter.gate.policy import Policy, read_policy
from geofilter.model.catalogue import CATALOGUE
from geofilter.runs.defaults import BY_RULE
from geofilter.settings import Settings
from helpers.gate_folder import record, write


class Loaded(Exception):
    """Raised in the place of loading, with what would be loaded."""


@pytest.fixture(autouse=True)
def _load_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(rows: object, settings: Settings) -> None:
        raise Loaded(settings)

    monkeypatch.setattr(scorer, "prepare", prepare)
    write(Path("data.jsonl"), [record(0, 0.1)])


def make_policy(model: str, sae: str | None = None, folder: Path = Path()) -> Policy:
    lines = ["[tool.geofilter]", f"model = '{model}'", 'pack = "toxic.pack"', "threshold = 1"]
    if sae is not None:
        lines.append(f"sae = '{sae}'")
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n")
    return read_policy([folder / "data.jsonl"])


def load(policy: Policy) -> tuple[str, str | None]:
    """The model and the SAE that would be loaded."""
    with pytest.raises(Loaded) as caught:
        scorer.load_scorer(policy, open_rows("data.jsonl"))
    settings = caught.value.args[0]
    return settings.model, settings.sae


def test_the_scorer_of_an_adapter_is_that_of_its_base_wherever_the_current_folder_is() -> None:
    adapter = Path("policy/adapter")
    adapter.mkdir(parents=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": "organism", "lora_alpha": 1}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (adapter / "adapter_model.safetensors").touch()
    policy = make_policy("./adapter", folder=Path("policy"))
    assert policy.scorer.name == CATALOGUE["organism"].scorer != BY_RULE
    (policy.root / "toxic.pack").touch()
    assert policy.asked()["scorer"] == policy.scorer.name
    # Locks that were made before there was this key go on.
    assert "load_in" not in policy.asked()


STAND_INS = {
    "a hub id": ("google/gemma-2-2b", "./sae", "google/gemma-2-2b"),
    "an SAE": ("./model", "release/id", "release/id"),
    "a model of the catalogue": ("gemma-2-2b", None, "google/gemma-2-2b"),
    "an SAE of the catalogue": (
        "gemma-2-2b",
        None,
        "gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical",
    ),
    "a word": ("mine", "./sae", "mine"),
}


@pytest.mark.parametrize("beside", ["the policy", "the current folder"])
@pytest.mark.parametrize("name", STAND_INS)
def test_a_folder_never_passes_for_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, beside: str
) -> None:
    """Whoever adds files to a repository could have another model score them."""
    model, sae, stand_in = STAND_INS[name]
    for folder in ("model", "sae"):
        Path(folder).mkdir()
    policy = make_policy(model, sae)
    load(policy)
    if beside == "the current folder":
        Path("inner").mkdir()
        shutil.copy("data.jsonl", "inner")
        monkeypatch.chdir("inner")
    Path(stand_in).mkdir(parents=True)
    with pytest.raises(PolicyError, match="rename the folder, or write") as caught:
        scorer.load_scorer(policy, open_rows("data.jsonl"))
    assert stand_in in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_spelled_as_one_and_lies_beside_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in ("work/google/gemma-2-2b", "work/sae", "home/model", "base"):
        Path(folder).mkdir(parents=True)
    root = tmp_path / "work"
    for model, wanted in (
        ("./google/gemma-2-2b", root / "google/gemma-2-2b"),
        ("../base", root / "../base"),
        ("~/model", tmp_path / "home/model"),
        (str(tmp_path / "base"), tmp_path / "base"),
    ):
        policy = make_policy(model, "./sae", root)
        assert load(policy) == (str(wanted), str(root / "sae"))
    assert load(make_policy("organism")) == ("organism", None)


def test_a_gguf_file_is_a_model_and_lies_beside_the_policy(tmp_path: Path) -> None:
    Path("sae").mkdir()
    Path("small.gguf").touch()
    assert load(make_policy("./small.gguf", "./sae"))[0] == str(tmp_path / "small.gguf")


def test_all_that_a_policy_states_decides_the_run() -> None:
    Path("sae").mkdir()
    policy = make_policy("mine", "./sae")
    stated = {"block": 3, "scorer": "persona", "proximity": "mean", "max-length": 7}
    lines = [f"{key} = {json.dumps(value)}" for key, value in stated.items()]
    with policy.path.open("a") as handle:
        handle.write("\n".join([*lines, "last-turn = true", 'dtype = "bfloat16"', ""]))
    policy = read_policy()
    with pytest.raises(Loaded) as caught:
        scorer.load_scorer(policy, open_rows("data.jsonl"), device="cpu")
    assert caught.value.args[0] == Settings(
        model="mine",
        sae=str(policy.root / "sae"),
        block=3,
        device="cpu",
        pack=str(policy.root / "toxic.pack"),
        scorer="persona",
        proximity="mean",
        max_length=7,
        last_turn=True,
        dtype="bfloat16",
    )


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("~nosuchuser/x", "no user of this machine"),
        ("./gone", "is not a folder"),
        ("./data.jsonl", "is not a folder"),
        ("./gone.gguf", "is not a folder"),
        ("small.gguf", r"is a file; write \./small\.gguf"),
        ("m" * 300, "File name too long"),
        ("./" + "m" * 300, "File name too long"),
        ("./loop", "Too many levels"),
        ("loop", "Too many levels"),
    ],
)
def test_a_model_that_is_none_is_told_in_one_line(model: str, said: str) -> None:
    Path("loop").symlink_to("loop")
    with pytest.raises(PolicyError, match=said) as caught:
        scorer.load_scorer(make_policy(model, "./sae"), open_rows("data.jsonl"))
    assert "\n" not in str(caught.value)
    assert "pyproject.toml: model = " in str(caught.value)
