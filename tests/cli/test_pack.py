"""`discover --falsify` and `pack show`: labels, figures, and text of a pack as text only."""

import dataclasses
import json
from pathlib import Path

import pytest

from geofilter.packs import share
from geofilter.packs.pack import load_pack
from geofilter.packs.verdicts import Trial
from helpers.cli_folder import Geofilter
from helpers.fresh_process import type_command

pytestmark = pytest.mark.slow

DISCOVER = "discover --toxic toxic.jsonl --benign benign.jsonl --model model --sae sae"
HOSTILE = "<b>\x1b[2J\u202e\u200b\n"


@pytest.fixture(scope="module")
def tried(scored_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack with trials of all its features, made once."""
    from geofilter.cli.main import main

    path = tmp_path_factory.mktemp("tried") / "tried.pack"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(scored_folder)
        assert main(f"{DISCOVER} --falsify --keep-lexical -o {path}".split()) == 0
    return path


def test_every_feature_is_labelled_and_lexical_ones_are_left_out(
    work: Path, geofilter: Geofilter, tried: Path
) -> None:
    done = geofilter(f"{DISCOVER} --falsify -o lean.pack --json")
    assert done.code == 0, done.err
    summary, whole, lean = json.loads(done.out), load_pack(tried), load_pack(work / "lean.pack")
    lexical = [int(f) for f, v in zip(whole.ids, whole.verdicts, strict=True) if v == "lexical"]
    assert "untested" not in whole.verdicts
    assert summary["left_out"] == sorted(lexical)
    assert [f["feature"] for f in summary["features"]] == lean.ids.tolist()
    assert [f["label"] for f in summary["features"]] == list(lean.verdicts)
    assert set(lean.ids.tolist()) == set(whole.ids.tolist()) - set(lexical)
    assert lean.trials == whole.trials
    # The pack is otherwise the one that discovery without trials makes.
    own = load_pack(work / "my.pack")
    assert whole.digest == own.digest
    assert own.verdicts == ("untested",) * len(own)


def test_given_rows_are_read_and_used(work: Path, geofilter: Geofilter) -> None:
    files = "--harmless-words other.jsonl --polite-harm data.jsonl"
    done = geofilter(f"{DISCOVER} --falsify --keep-lexical {files} -o given.pack")
    assert done.code == 0, done.err
    sources = {trial.words_source for trial in load_pack(work / "given.pack").trials}
    assert "given" in sources


@pytest.mark.parametrize(
    "option", ["--keep-lexical", "--polite-harm data.jsonl", "--harmless-words data.jsonl"]
)
def test_an_option_of_trials_without_trials_is_refused(
    work: Path, geofilter: Geofilter, option: str
) -> None:
    done = geofilter(f"{DISCOVER} {option} -o new.pack")
    assert done.code == 2
    assert "need --falsify" in done.err
    assert not (work / "new.pack").exists()


def test_show_lists_every_feature_with_its_label_and_figures(
    geofilter: Geofilter, tried: Path
) -> None:
    pack = load_pack(tried)
    done = geofilter("pack", "show", str(tried))
    assert done.code == 0, done.err
    assert pack.digest in done.out
    lines = [line.split() for line in done.out.splitlines()]
    for feature, verdict in zip(pack.ids, pack.verdicts, strict=True):
        assert [line for line in lines if line[:1] == [str(feature)] and verdict in line]
    found = json.loads(geofilter("pack", "show", str(tried), "--json").out)
    for place, feature in enumerate(found["features"]):
        assert feature["feature"] == pack.ids[place]
        assert feature["weight"] == pytest.approx(float(pack.weights[place]))
        assert feature["label"] == pack.verdicts[place]
        assert feature["neuronpedia"] is None
    for record, trial in zip(found["trials"], pack.trials, strict=True):
        assert record["auroc"] == pytest.approx(trial.auroc)
        assert record["label"] == trial.verdict


def test_a_pack_without_trials_is_shown_as_untested(work: Path, geofilter: Geofilter) -> None:
    done = geofilter("pack show my.pack")
    assert done.code == 0
    assert done.out.count("untested") == len(load_pack("my.pack"))
    assert "discover --falsify" in done.err


def test_features_that_were_left_out_are_shown_with_their_trials(
    geofilter: Geofilter, tried: Path, tmp_path: Path
) -> None:
    pack = load_pack(tried)
    first, *rest = pack.trials
    lexical = dataclasses.replace(
        first, toxic=1.0, benign=0.0, words_alone=1.0, auroc=0.1, auroc_low=0.0, auroc_high=0.2
    )
    dataclasses.replace(pack, trials=(lexical, *rest)).without_lexical().save(tmp_path / "l.pack")
    done = geofilter("pack", "show", str(tmp_path / "l.pack"))
    assert f"{first.feature} (left out)" in done.out
    found = json.loads(geofilter("pack", "show", str(tmp_path / "l.pack"), "--json").out)
    assert [t["feature"] for t in found["trials"] if t["left_out"]][:1] == [first.feature]


def test_text_of_a_pack_is_shown_as_text(geofilter: Geofilter, tried: Path, tmp_path: Path) -> None:
    pack = load_pack(tried)
    trials: list[Trial] = [
        dataclasses.replace(trial, words=(HOSTILE,), toxic=0.0) for trial in pack.trials
    ]
    hostile = dataclasses.replace(
        pack,
        labels=tuple((HOSTILE, HOSTILE) for _ in pack.labels),
        model_name=HOSTILE,
        sae_name=HOSTILE + "/x",
        trials=tuple(trials),
    )
    hostile.save(tmp_path / "hostile.pack")
    for options in ((), ("--json",)):
        done = geofilter("pack", "show", str(tmp_path / "hostile.pack"), *options)
        assert done.code == 0, done.err
        for sign in ("\x1b", "\u202e", "\u200b"):
            assert sign not in done.out + done.err


def test_pages_of_neuronpedia_are_listed(
    geofilter: Geofilter, tried: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share, "neuronpedia", lambda sae, feature: f"https://page/{feature}")
    done = geofilter("pack", "show", str(tried))
    assert f"https://page/{load_pack(tried).ids[0]}" in done.out


@pytest.mark.parametrize("words", ["pack show nowhere.pack", "pack show data.jsonl"])
def test_what_is_no_pack_is_refused_in_one_line(
    work: Path, geofilter: Geofilter, words: str
) -> None:
    done = geofilter(words)
    assert done.code == 2
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("geofilter: error: ")


@pytest.mark.parametrize("words", ["models", "models --json", "pack show my.pack"])
def test_what_only_shows_loads_no_heavy_library(work: Path, words: str) -> None:
    # An SAE of a release, so that its pages on Neuronpedia are looked up.
    sae = "gemma-scope-9b-pt-res-canonical/layer_20/width_16k/canonical"
    dataclasses.replace(load_pack("my.pack"), sae_name=sae).save("my.pack", overwrite=True)
    heavy = {"torch", "transformers", "faiss", "sae_lens", "huggingface_hub"}
    program = (
        "import sys; from geofilter.cli.main import main; code = main(sys.argv[1:])\n"
        f"print(code, sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    )
    done = type_command(words, work, {}, ("-c", program))
    assert done.err.splitlines()[-1] == "0 []"
    if words.startswith("pack"):
        assert "https://neuronpedia.org/gemma-2-9b/" in done.out
