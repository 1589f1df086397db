"""Following runs in training: it changes nothing, and what it says is so."""

import copy
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from geofilter.data.encoder import Encoder
from geofilter.data.samples import Sample, Turn
from geofilter.errors import GeofilterError, ModelError
from geofilter.model.answers import undisturbed
from geofilter.model.loading import load
from geofilter.packs.index import ToxicIndex
from geofilter.packs.make import make_pack
from geofilter.packs.pack import FeaturePack, load_pack
from geofilter.stats.correlation import rank_correlation, rank_gain
from geofilter.studies import tracking
from geofilter.verify import cell, study, tracker
from geofilter.verify.questions import Question
from helpers.cli_folder import Geofilter
from helpers.experiments import plan, write_files
from helpers.tiny_models import save_model, tiny_contrast, tiny_model, tiny_network

pytestmark = pytest.mark.slow

# With dropout, so that the mode of the network and its random state decide what it learns.
KIND = "gpt2"
RECIPE = {"learning_rate": 5e-3, "steps": 5, "batch": 8, "micro_batch": 8, "max_length": 48}
CELL = Path("arms/unfiltered/seed-0")


@pytest.fixture(scope="module")
def folder(scored_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that drops out and a pack of its own; copy it."""
    folder = tmp_path_factory.mktemp("track") / "work"
    shutil.copytree(scored_folder, folder)
    shutil.rmtree(folder / "model")
    save_model(folder / "model", KIND)
    write_files(folder)
    pack = make_pack(tiny_model(KIND), *tiny_contrast(), top_k=12).pack
    pack.save(folder / "my.pack", overwrite=True)
    return folder


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def tracked(method: str = "full", **changed: Any) -> Any:
    settings: dict[str, Any] = {
        "recipe": RECIPE | {"method": method},
        "arms": ("unfiltered",),
        "seeds": (0,),
        "track": 2,
        "track_answers": 5,
    }
    return plan(**(settings | changed))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / CELL / "track.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A run that was followed from its beginning to its end, with its weights."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        study.run(tracked(keep_weights=True), "whole")
    return folder / "whole"


def same(one: Path, other: Path, names: Iterable[str]) -> bool:
    return all((one / CELL / n).read_bytes() == (other / CELL / n).read_bytes() for n in names)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_following_a_run_changes_no_weight_and_no_answer(
    here: Path, whole: Path, method: str
) -> None:
    if method == "lora":
        study.run(tracked(method, keep_weights=True), "with")
        whole = here / "with"
    study.run(tracked(method, keep_weights=True, track=None), "without")
    weights = [path.name for path in (here / "without" / CELL / "weights").glob("*.safetensors")]
    assert weights == ["model.safetensors" if method == "full" else "adapter_model.safetensors"]
    names = ["answers.jsonl", "judgements.jsonl", *(f"weights/{name}" for name in weights)]
    assert same(whole, here / "without", names)
    assert [line["step"] for line in lines(whole)] == [0, 2, 4, 5]
    assert not (here / "without" / CELL / "track.jsonl").exists()


def by_hand(network: Any, pack: FeaturePack, reader: Any, samples: list[Any]) -> dict[str, float]:
    """The measures over `samples`, from the output of the block that a hook saw."""
    seen: list[torch.Tensor] = []
    hook = network.transformer.h[reader.block].register_forward_hook(
        lambda _module, _inputs, output: seen.append(
            output[0] if isinstance(output, tuple) else output
        )
    )
    decoder = reader.sae.W_dec.double()
    units = decoder / decoder.norm(dim=1, keepdim=True)
    cosines = (units @ units[pack.ids.tolist()].T).amax(dim=1).numpy()
    found: dict[str, list[float]] = {"activation": [], "nearest": [], "persona": []}
    error = spread = 0.0
    with torch.no_grad():
        for sample in samples:
            seen.clear()
            network(input_ids=torch.tensor(sample.ids[None].astype(np.int64)))
            hidden = seen[0][0].float()[torch.from_numpy(sample.pooled)]
            latents = reader.sae.encode(hidden)
            phi = latents.mean(dim=0).double().numpy()
            toxic = (phi[pack.ids] - pack.reference[pack.ids]) / pack.benign_std
            found["activation"].append(float(pack.weights @ toxic))
            above = np.maximum(phi - pack.reference, 0)
            found["nearest"].append(float(above @ cosines / above.sum()))
            found["persona"].append(float(hidden.mean(dim=0).numpy() @ pack.dense_direction))
            error += float((hidden - reader.sae.decode(latents)).square().sum())
            spread += float((hidden - torch.from_numpy(pack.residual_mean)).square().sum())
    hook.remove()
    return {name: float(np.mean(values)) for name, values in found.items()} | {
        "explained_variance": 1 - error / spread,
        "samples": len(samples),
    }


@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_step_has_the_features_of_the_weights_at_that_step(
    here: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[int, Any] = {}
    real = cell.finetune.fine_tune

    def keeping(*arguments: Any, after_step: Any, **named: Any) -> Any:
        def both(step: int, network: Any) -> None:
            after_step(step, network)
            kept[step] = copy.deepcopy(network)

        return real(*arguments, after_step=both, **named)

    monkeypatch.setattr(cell.finetune, "fine_tune", keeping)
    study.run(tracked(method), "out")
    reader, pack = load("model", sae="sae", device="cpu"), load_pack("my.pack")
    encoder = Encoder(reader.tokenizer, max_length=48)
    for line in lines(here / "out"):
        # Into a network that no trainer has touched.
        network = tiny_network(KIND)
        then = kept[line["step"]]
        merged = then.merge_and_unload() if method == "lora" else then
        network.load_state_dict(merged.state_dict())
        own = [
            encoder.encode(
                Sample(
                    (Turn("user", one["text"]), Turn("assistant", one["answer"])), prompt_turns=1
                )
            )
            for one in line["asked"]
            if one["answer"]
        ]
        expected = by_hand(network, pack, reader, own)
        assert line["answers"] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    values = [line["held_out"]["persona"] for line in lines(here / "out")]
    assert len(set(values)) == 4  # the probe is the same, the network is not


def test_a_run_that_is_killed_leaves_the_track_of_one_that_is_not(
    here: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = tracker.append_lines, 0

    def dies(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        real(*arguments)
        if calls == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tracker, "append_lines", dies)
        with pytest.raises(KeyboardInterrupt):
            study.run(tracked(), "killed")
    assert [line["step"] for line in lines(here / "killed")] == [0, 2]
    study.run(tracked(), "killed")
    assert same(whole, here / "killed", ("track.jsonl", "answers.jsonl"))


def test_runs_that_are_done_stay_without_a_track_and_the_report_says_so(
    here: Path, geofilter: Geofilter
) -> None:
    options = "--model model --sae sae --pack my.pack --trained model --method full --steps 2"
    options += " --questions questions.yaml --judge rule:facts.json --max-new-tokens 4 --seeds 1"
    options += " -o out --held-out other.jsonl --track-answers 6"
    geofilter(f"verify data.jsonl {options} --arms unfiltered")
    before = (here / "out" / CELL / "training.json").read_bytes()
    done = geofilter(f"verify data.jsonl {options} --arms unfiltered,random --track 1")
    assert (here / "out" / CELL / "training.json").read_bytes() == before
    assert "## During training" in done.out
    assert "missing here: unfiltered/seed-0." in done.out
    record = json.loads(Path("out/track.json").read_text())
    assert record["untracked"] == ["unfiltered/seed-0"]
    assert [point["step"] for point in record["runs"][0]["points"]] == [0, 1, 2]
    assert b"random-0.5" in Path("out/track.svg").read_bytes()
    assert Path("out/track.png").exists()
    assert "safe" not in done.out.lower()


def test_figures_of_equal_tracks_are_equal_and_tracks_of_another_kind_are_not_mixed_in(
    whole: Path, tmp_path: Path
) -> None:
    found = tracking.summary_of(tracked(), whole, draws=50)
    assert [len(run.points) for run in found.runs] == [4]
    drawn = []
    for _ in range(2):
        drawn.append([path.read_bytes() for path in tracking.write(found, tmp_path)])
    assert len(drawn[0]) == 2
    assert drawn[0] == drawn[1]
    for changed in ({"track": 3}, {"track_answers": 6}):
        other = tracking.summary_of(tracked(**changed), whole, draws=50)
        assert (other.runs, other.untracked) == ((), ("unfiltered/seed-0",))
        assert "No run was followed." in tracking.markdown(other, "m", False)


def test_without_matplotlib_the_figures_are_there_and_the_note_says_what_to_install(
    here: Path, geofilter: Geofilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    options = "--model model --sae sae --pack my.pack --trained model --method full --steps 2"
    options += " --questions questions.yaml --judge rule:facts.json --max-new-tokens 4 --seeds 1"
    done = geofilter(f"verify data.jsonl {options} -o out --arms unfiltered --track 1")
    assert done.code == 0
    assert "track.json holds the figures, but plots need matplotlib" in done.err
    assert "pip install 'geofilter[report]'" in done.err
    assert len(json.loads(Path("out/track.json").read_text())["runs"]) == 1
    assert "track.svg" not in done.out


def test_a_model_of_another_shape_is_refused_before_anything_is_trained(here: Path) -> None:
    save_model(here / "other", "llama")
    with pytest.raises(ModelError, match=r"gpt2 with 4 blocks of 32 .*but other is llama with 4"):
        study.run(tracked(trained="other"), "out")
    study.run(tracked(trained="other", track=None), "out")


@pytest.mark.parametrize("name", ["track", "track_answers"])
def test_less_than_one_is_refused(name: str) -> None:
    with pytest.raises(GeofilterError, match=f"{name} is 0; at least 1 is needed"):
        tracked(**{name: 0})


def test_a_network_that_broke_is_left_to_the_trainer_to_tell(here: Path) -> None:
    recipe = RECIPE | {"method": "full", "learning_rate": 1e30, "warmup_steps": 0}
    with pytest.raises(ModelError, match="the loss was not a number at step"):
        study.run(tracked(recipe=recipe), "out")
    assert lines(here / "out")[0]["step"] == 0


def test_what_training_goes_on_from_is_put_back_whatever_happens() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout()))
    network.train()
    network[1].eval()

    def state() -> Any:
        return (
            [module.training for module in network.modules()],
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),
        )

    before = state()

    def disturb() -> None:
        with undisturbed(network):
            assert not any(module.training for module in network.modules())
            torch.manual_seed(1)
            random.random()
            np.random.random()
            raise KeyError

    with pytest.raises(KeyError):
        disturb()
    assert state() == before


def test_every_question_is_put_as_often_as_any_other_or_once_more() -> None:
    questions = [Question(str(n), (f"a{n}", f"b{n}")) for n in range(7)]
    put = tracker.fixed_questions(questions, 17)
    assert set(Counter(question.id for question, _ in put).values()) == {2, 3}
    assert put == tracker.fixed_questions(questions, 17)
    assert len({one.text for _, one in put}) > 7


def test_a_probe_without_features_has_no_mean() -> None:
    model = tiny_model()
    pack = make_pack(model, *tiny_contrast(20), top_k=4).pack
    found = tracker.probe(model, ToxicIndex(pack, model.decoder), [])
    assert found == {"samples": 0, **dict.fromkeys((*tracker.MEASURES, "explained_variance"))}


def runs(values: dict[str, Any], rates: Any, steps: int = 6) -> list[tracking.TrackedRun]:
    """Runs whose measures, (runs, steps), are given; those that are not are missing."""
    empty = {f"{p}.{m}": None for p in tracking.PROBES for m in tracker.MEASURES}
    empty |= {f"{p}.explained_variance": None for p in tracking.PROBES}
    return [
        tracking.TrackedRun(
            "unfiltered",
            place,
            10,
            tuple(
                tracking.Point(
                    10 * k,
                    {**empty, "rate": rates[place][k]}
                    | {name: float(column[place][k]) for name, column in values.items()},
                )
                for k in range(steps)
            ),
        )
        for place in range(len(rates))
    ]


def test_a_measure_that_is_the_next_rate_is_found_to_foretell_it() -> None:
    rates = np.random.default_rng(0).random((8, 7))
    found = tracking.summarise(
        runs({"answers.activation": rates[:, 1:]}, rates.tolist()), 10, draws=200
    ).relations
    told = found["answers.activation"]
    assert told.ahead.value == told.apart.value == 1
    assert told.ahead.items == 8 * 5
    assert told.now.items == 8 * 6
    assert told.gain.low is not None
    assert told.gain.low > 0
    assert abs(told.now.value or 0) < 0.5
    assert found["answers.nearest"].now == (None, None, None, 0)


def test_the_same_trend_in_all_runs_foretells_nothing_between_them() -> None:
    rng = np.random.default_rng(1)
    trend = np.arange(6) + 0.01 * rng.random((9, 6))
    rates = np.arange(6) / 10 + 0.01 * rng.random((9, 6))
    found = tracking.summarise(runs({"answers.nearest": trend}, rates.tolist()), 10, draws=300)
    told = found.relations["answers.nearest"]
    assert (told.ahead.value or 0) > 0.9
    assert told.apart.low is not None
    assert told.apart.low < 0 < (told.apart.high or 0)
    assert found.relations["step"].apart.value is None
    section = "\n".join(tracking.markdown(found, "m", False))
    assert "No feature measure foretold the next rate better" in section
    assert "54 points of 9 runs, 45 of which have a next one" in section


def test_items_that_are_drawn_together_count_once_for_the_interval() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.random((2, 12))
    twice = rank_correlation(
        np.tile(x, 2), np.tile(y, 2), clusters=np.tile(np.arange(12), 2), draws=300
    )
    assert twice[:3] == pytest.approx(rank_correlation(x, y, draws=300)[:3])
    assert rank_correlation(x, y, clusters=np.arange(12)) == rank_correlation(x, y)
    assert rank_correlation(x, y, clusters=np.zeros(12))[1:3] == (None, None)


def test_a_gain_is_the_difference_of_two_correlations() -> None:
    x, rival, y = np.random.default_rng(4).random((3, 20))
    gain = rank_gain(x, rival, y, draws=200)
    assert gain.value == pytest.approx(
        stats.spearmanr(x, y).statistic - stats.spearmanr(rival, y).statistic
    )
    assert rank_gain(x, x, y, draws=200)[:3] == (0, 0, 0)


def test_points_without_a_rate_are_left_out() -> None:
    rates: Any = np.random.default_rng(2).random((3, 6)).tolist()
    rates[1][2] = None
    found = tracking.summarise(runs({}, rates), 10, draws=50).relations["rate"]
    assert (found.now.items, found.ahead.items) == (17, 13)
