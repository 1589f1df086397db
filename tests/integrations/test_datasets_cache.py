"""What a GeoFilter is pickled, hashed and cached by, and that another process can use it."""

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from datasets import Dataset, load_from_disk
from datasets.fingerprint import Hasher

from geofilter import GeoFilter
from geofilter.cli.main import main
from geofilter.errors import ModelError, PackError
from geofilter.integrations import datasets as filter_module
from geofilter.model import loading
from geofilter.packs import default_pack
from geofilter.packs.pack import load_pack
from geofilter.runs.identity import identify
from geofilter.settings import Settings
from helpers.filters import make, records

pytestmark = pytest.mark.slow


def test_a_pickle_holds_settings_and_never_a_model(loaded: GeoFilter) -> None:
    text = pickle.dumps(loaded)
    assert len(text) < 4000
    again = pickle.loads(text)
    assert again._loaded is None
    assert vars(again)["settings"] == loaded.settings
    assert pickle.dumps(again) == text


def test_equal_settings_have_one_hash_before_and_after_loading(work: Path) -> None:
    first, second = make(), make()
    before = Hasher.hash(first)
    first({"prompt": "w1", "response": "w2"})
    assert Hasher.hash(first) == before == Hasher.hash(second)


@pytest.mark.parametrize(
    "other",
    [
        {"scorer": "nearest"},
        {"proximity": "mean"},
        {"max_length": 20},
        {"last_turn": True},
        {"device": "cpu"},
        {"dtype": "bfloat16"},
        {"block": 1},
        {"layout": "prompt-response"},
        {"columns": {"response": "response"}},
        {"pack": None},
        {"sae": "other-sae", "pack": None},
        {"threshold": 0.3},
    ],
    ids=str,
)
def test_another_setting_has_another_hash(work: Path, other: dict[str, Any]) -> None:
    assert Hasher.hash(make()) != Hasher.hash(make(**other))


def change_pack() -> None:
    pack = load_pack("my.pack")
    pack.weights[:2] = pack.weights[[1, 0]] + np.float32([0.01, 0.02])
    pack.save("my.pack", overwrite=True)


def change(path: str) -> Callable[[], None]:
    def edit() -> None:
        content = bytearray(Path(path).read_bytes())
        content[-1] ^= 1
        Path(path).write_bytes(content)

    return edit


CHANGES = {
    "pack": change_pack,
    "weights": change("model/model.safetensors"),
    "tokenizer": change("model/tokenizer.json"),
    "SAE": change("sae/sae_weights.safetensors"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changed_files_of_the_same_name_have_another_hash(work: Path, what: str) -> None:
    geofilter = make()
    before = Hasher.hash(geofilter)
    CHANGES[what]()
    assert Hasher.hash(geofilter) != before
    assert Hasher.hash(make()) != before


def test_a_pack_that_changed_after_it_was_loaded_is_loaded_anew(work: Path) -> None:
    geofilter, rows = make(), Dataset.from_list(records())
    before = GeoFilter.scores(rows.map(geofilter, batched=True))
    assert (GeoFilter.scores(rows.map(geofilter, batched=True)) == before).all()
    Path("my.pack").unlink()
    command = (
        "discover --toxic other.jsonl --benign benign.jsonl -o my.pack --model model --sae sae"
    )
    assert main(command.split()) == 0
    after = GeoFilter.scores(rows.map(geofilter, batched=True))
    assert (after == GeoFilter.scores(rows.map(make(), batched=True))).all()
    assert (after != before).any()


def test_a_loaded_model_stays_loaded_while_its_filter_is_pickled(work: Path) -> None:
    geofilter = make()
    row = {"prompt": "w1", "response": "w2"}
    geofilter(row)
    loaded = geofilter._loaded
    change_pack()
    pickle.dumps(geofilter)
    assert geofilter._loaded is loaded is not None
    geofilter(row)
    assert geofilter._loaded is not loaded


def test_what_changed_between_hashing_and_loading_is_refused(work: Path) -> None:
    handed_on = pickle.loads(pickle.dumps(make()))
    change_pack()
    with pytest.raises(ModelError, match="the pack changed"):
        handed_on({"prompt": "w1", "response": "w2"})


HUB_SAE = "gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical"
COMMITS = ("a" * 40, "b" * 40)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A hub at whose `commit` the repositories are, and `fetch`, which takes an SAE from it."""
    state = SimpleNamespace(commit=COMMITS[0], asked=[])
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))

    def model_info(repo: str, **_: Any) -> SimpleNamespace:
        state.asked.append(repo)
        return SimpleNamespace(sha=state.commit)

    def fetch() -> None:
        ref = cache / "models--google--gemma-scope-2b-pt-res" / "refs" / "main"
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(state.commit)

    state.fetch = fetch
    monkeypatch.setattr(huggingface_hub, "model_info", model_info)
    return state


def test_an_sae_of_the_hub_has_one_hash_before_and_after_it_is_fetched(work, hub) -> None:
    before = Hasher.hash(make(sae=HUB_SAE))
    assert set(hub.asked) == {"google/gemma-scope-2b-pt-res"}
    hub.fetch()
    hub.asked.clear()
    assert Hasher.hash(make(sae=HUB_SAE)) == before
    assert hub.asked == []


def test_another_commit_of_an_sae_has_another_hash_where_nothing_is_fetched(work, hub) -> None:
    before = Hasher.hash(make(sae=HUB_SAE))
    hub.commit = COMMITS[1]
    assert Hasher.hash(make(sae=HUB_SAE)) != before


def test_an_sae_that_moved_on_while_it_was_fetched_is_refused(work, hub, monkeypatch) -> None:
    def load(_: Any) -> None:
        hub.commit = COMMITS[1]
        hub.fetch()

    monkeypatch.setattr(filter_module, "load", load)
    with pytest.raises(ModelError, match="the sae changed"):
        make(sae=HUB_SAE)({"prompt": "w1", "response": "w2"})


def test_an_sae_whose_commit_nobody_tells_is_told_as_such(work, hub, monkeypatch) -> None:
    hub.commit = "main\n"
    with pytest.raises(ModelError, match="names no commit"):
        Hasher.hash(make(sae=HUB_SAE))
    monkeypatch.undo()
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        identify(Settings(str(work / "model"), sae=HUB_SAE, pack=str(work / "my.pack")))


def test_a_missing_pack_is_told_as_such(work: Path) -> None:
    Path("my.pack").unlink()
    with pytest.raises(PackError, match=r"my\.pack: no such pack"):
        make()({"prompt": "w1", "response": "w2"})


AGAIN = """
import sys
import multiprocess
import pytest
from datasets import load_from_disk
from geofilter import GeoFilter, Settings

if __name__ == "__main__":
    geofilter = GeoFilter(Settings("model", sae="sae", pack="my.pack"), threshold=0.1)
    rows = load_from_disk("rows")
    scored = rows.map(geofilter, batched=True)
    assert geofilter._loaded is None, "the cache was not used"
    multiprocess.set_start_method("spawn")
    spawned = rows.map(geofilter, batched=True, num_proc=1, load_from_cache_file=False)
    assert geofilter._loaded is None, "the spawned process was to load the model"
    # Another number of threads sums in another order.
    for one, other in zip(spawned, scored, strict=True):
        for name in ("geofilter_score", "geofilter_nearest_similarity"):
            assert one.pop(name) == pytest.approx(other.pop(name), abs=1e-6)
        assert one == other
"""


def test_another_process_finds_the_scores_and_a_spawned_one_makes_the_same(work: Path) -> None:
    Dataset.from_list(records()).save_to_disk("rows")
    load_from_disk("rows").map(make(threshold=0.1), batched=True)
    Path("again.py").write_text(AGAIN)
    done = subprocess.run(
        [sys.executable, "again.py"], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_default_pack_is_made_once_however_many_want_it(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loading.load("model", sae="sae")
    pack, made, both = load_pack("my.pack"), [], threading.Barrier(2)

    class Discovered:
        def __init__(self, *_: Any, **__: Any) -> None:
            made.append(threading.get_ident())
            threading.Event().wait(0.3)  # long enough for the other to want it too
            self.pack = pack

    monkeypatch.setattr(default_pack, "make_pack", Discovered)
    monkeypatch.setattr(default_pack.DefaultPack, "_contrast", lambda _: (None, None))
    found = []

    def want() -> None:
        default = default_pack.DefaultPack(model)
        assert default.cached() is None
        both.wait(20)
        found.append(default.make())

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [one.digest for one in found] == [pack.digest] * 2
    assert len(made) == 1


def test_a_process_that_cannot_use_the_gpu_says_how_to_start_one_that_can(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(ModelError, match="spawn"):
        make()({"prompt": "w1", "response": "w2"})
    assert make(device="cpu")({"prompt": "w1", "response": "w2"})["geofilter_status"] == "scored"
