"""The benchmark on real text measures what geofilter computes, and chooses as it says."""

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from geofilter.data.encoder import Encoder
from geofilter.model import own_answers
from geofilter.model.activations import TokenBudget
from geofilter.model.features import sample_features
from geofilter.model.gradients import pushes, total_pushes
from geofilter.model.influence import influences, mean_gradient
from geofilter.scoring.score import BatchScorer
from helpers.tiny_models import random_samples, tiny_model, tiny_setting

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "real_text.json"


@pytest.fixture(scope="module", autouse=True)
def _scripts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield


def part(name: str) -> Any:
    return importlib.import_module(f"real_text_{name}")


def scores(harmful: list[float], benign: list[float], groups: str = "") -> Any:
    named = groups or "a" * (len(harmful) + len(benign))
    both = (list(named[: len(harmful)]), list(named[len(harmful) :]))
    tokens = np.arange(len(named), dtype=float)
    return part("cells").Scores(np.array(harmful), np.array(benign), both, tokens)


@pytest.mark.parametrize("network", ["llama", "gpt2"])
def test_a_pass_keeps_what_the_library_computes_for_each_block(network: str) -> None:
    features = part("features")
    model, samples = tiny_model(network), random_samples(5)
    looks, pushed = features.look(model, samples), features.pushes(model, samples)
    for block in range(len(looks[0].means)):
        there = replace(model, block=block)
        means = [one.mean_hidden for one in sample_features(there, samples)]  # type: ignore[union-attr]
        assert np.allclose([look.means[block] for look in looks], means, atol=1e-4)
        totals = total_pushes(pushes(there, samples).push, samples)
        assert np.allclose([push[block] for push in pushed], totals, atol=1e-4)
    ids = torch.from_numpy(samples[0].ids[None].astype(np.int64))
    logs = model.network(input_ids=ids).logits[0, :-1].log_softmax(-1)
    each = -logs.gather(1, ids[0, 1:, None])[:, 0].numpy()
    assert looks[0].loss == pytest.approx(each[samples[0].response[1:]].mean(), rel=1e-4)


def test_a_row_that_was_looked_at_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = part("features")
    model, samples = tiny_model(), random_samples(4)
    store = features.Store.of(tmp_path, model)
    features.fill(store, model, samples[:3], "looks")
    seen: list[int] = []
    look = features.look
    monkeypatch.setattr(
        features, "look", lambda m, batch: seen.append(len(batch)) or look(m, batch)
    )
    features.fill(store, model, samples, "looks")
    assert sum(seen) == 1
    assert store.costs()["looks"]["tokens"] == sum(len(sample.ids) for sample in samples)
    expected = [one.means for one in look(model, samples)]
    kept = features.side(store, [samples[0], None, *samples[1:]])
    assert np.allclose(kept.means, expected, atol=1e-5)
    assert kept.kept.tolist() == [0, 2, 3, 4]


def test_influence_is_the_library_s_for_each_block_and_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, sets, kept = part("features"), part("sets"), part("influence")
    items = [sets.chat("w1 w2", f"w{n} w{n + 1} w{n + 2}", "a") for n in range(8)]
    found = [
        sets.Set(name, name, True, items[:4], items[4:])
        for name in ("pairs-make", "pairs-choose", "rtp")
    ]
    model = tiny_model()
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.content + ' ' }}{% endfor %}"
    store = features.Store.of(tmp_path, model)
    scored = kept.influence_table(model, [0, 2], found, store)[kept.WAY]
    assert [scored[block].keys() for block in scored] == [{"pairs-choose"}] * 2
    both = [features.encode(features.encoder_of(model), side) for side in (items[:4], items[4:])]
    for block in (0, 2):
        query = mean_gradient(model, both, (1, -1), [block], TokenBudget(64))
        own = influences(model, both[0], query).influence.sum(dim=1)
        np.testing.assert_allclose(scored[block]["pairs-choose"].harmful, own, rtol=1e-3, atol=1e-5)
    monkeypatch.setattr(kept, "influences", None)
    monkeypatch.setattr(kept, "mean_gradient", None)
    again = kept.influence_table(model, [0, 2], found, store)[kept.WAY]
    assert np.array_equal(again[2]["pairs-choose"].benign, scored[2]["pairs-choose"].benign)


def test_larf_is_the_mean_cosine_to_harmful_rows_less_that_to_helpful_ones() -> None:
    features, measure, sets = part("features"), part("measure"), part("sets")
    random = np.random.default_rng(0)

    def side(rows: int) -> Any:
        whole = np.ones(rows)
        return features.Side(random.standard_normal((rows, 2, 5)), whole, whole, np.arange(rows))

    items = [sets.text("w1")] * 4
    source, looked = (
        measure.Looked(sets.Set("s", "s", True, items, items), side(3), side(4)) for _ in range(2)
    )

    def cosine(one: Any, other: Any) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    row = looked.harmful.means[1, 1]
    harmful, helpful = (
        np.mean([cosine(row, other) for other in references.means[:, 1]])
        for references in (source.harmful, source.benign)
    )
    assert measure.larf(looked, source, 1).harmful[1] == pytest.approx(harmful - helpful)


def test_a_model_with_other_weights_has_a_folder_of_its_own(tmp_path: Path) -> None:
    features = part("features")
    folders = {features.Store.of(tmp_path, tiny_model(seed=seed)).folder for seed in (0, 0, 1)}
    assert len(folders) == 2


def test_precision_counts_ties_at_the_edge_by_their_chance() -> None:
    cells = part("cells")
    assert cells.precision(scores([4, 3], [2, 1]), 0.5) == 1
    assert cells.precision(scores([1, 1], [1, 1, 1, 1, 1, 1]), 0.5) == 0.25
    assert cells.precision(scores([3, 1], [1, 1]), 0.5) == pytest.approx(2 / 3, abs=1e-3)


def test_within_groups_a_difference_between_groups_does_not_count() -> None:
    found = part("cells").cell(scores([5, 5, 1], [5, 1, 1], groups="aababb"))
    assert found.auroc > 0.5
    assert found.within == 0.5


def test_an_interval_of_a_difference_is_of_the_same_rows() -> None:
    cells = part("cells")
    random = np.random.default_rng(0)
    good = [scores([*random.normal(1, 1, 40)], [*random.normal(0, 1, 40)]) for _ in range(4)]
    bad = [scores([*random.normal(0, 1, 40)], [*random.normal(0, 1, 40)]) for _ in range(4)]
    found = cells.compared({"good": good, "same": good, "bad": bad})
    assert found["good - same"] == (0, 0, 0)
    assert found["good - bad"].low > 0
    areas = [cells.auroc(one.harmful, one.benign).value for one in good]
    assert found["good"].value == pytest.approx(np.mean(areas), abs=1e-4)


def test_only_the_choosing_split_chooses() -> None:
    measure = part("measure")
    good, bad = scores([2, 3], [0, 1], "abab"), scores([0, 1], [2, 3], "abab")
    way = measure.Way("persona", "pairs", measure.SHIPPED["pairs"])
    table = {
        way: {0: {"pairs-choose": good, "other": bad}, 1: {"pairs-choose": bad, "other": good}}
    }
    assert measure.choose(table, ())["persona/pairs"][:2] == (way, 0)
    assert measure.choose(table, [1])["persona/pairs"][:2] == (way, 1)


def test_words_of_the_pairs_tell_texts_that_use_them() -> None:
    baselines = part("baselines")
    bag = baselines.BagOfWords(["red wet", "red dry", "red"], ["blue wet", "blue dry", "blue"])
    assert bag(["a red one"]) > bag(["a wet one"]) > bag(["a blue one"])
    assert list(baselines.keyword_scores(["I hate it", "I like it", ""])) == [1 / 3, 0, 0]


def test_pairs_stay_pairs_when_fewer_are_drawn() -> None:
    sets = part("sets")
    few = sets.pairs("choose").thinned(10)
    assert len(few.harmful) == len(few.benign) == 10
    for harmful, benign in zip(few.harmful, few.benign, strict=True):
        assert harmful.sample.turns[0] == benign.sample.turns[0]
        assert harmful.text != benign.text


def test_the_own_answer_moves_all_rows_of_a_prompt_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_answers, "ANSWER_TOKENS", 4)
    sets, (model, pack) = part("sets"), tiny_setting()
    scorer = BatchScorer(model, pack, scorer="projection-difference")
    run = SimpleNamespace(scorer=scorer, encoder=Encoder(model.tokenizer, max_length=40))
    words = np.random.default_rng(0).integers(0, 60, (2, 2, 3, 5))
    sides = [
        [sets.chat(f"w{3 + place} w9", " ".join(f"w{n}" for n in row)) for row in side[place]]
        for side in words
        for place in range(2)
    ]
    one = sets.Set("x", "x", True, sides[0] + sides[1], sides[2] + sides[3])
    found = part("answers").measured(run, one)
    assert part("answers").prompts(run, one) == 2
    own, row = (np.concatenate(found[name][:2]) for name in ("projection-difference", "persona"))
    shift = dict.fromkeys(np.round(row - own, 4))
    assert len(shift) == 2
    cells = part("cells")
    assert cells.within(found["persona"]) == cells.within(found["projection-difference"])


def test_own_answers_that_were_measured_have_a_line_and_a_column(tmp_path: Path) -> None:
    report, results = part("report"), json.loads(RESULTS.read_text())
    name = next(iter(results["sets"].keys() - {"pairs-make", "rtp"}))
    kinds = ("all", "within")
    judged = {f"projection-difference, {kind}": [0.7, 0.6, 0.8] for kind in kinds}
    judged["persona - projection-difference, all"] = [0.07, 0.01, 0.12]
    measured = {"block": 19, "judged": judged, "sets": {name: {"projection-difference": [0.678]}}}
    (tmp_path / "r_answers.json").write_text(json.dumps(measured))
    with_answers = report.with_answers(results, tmp_path / "r.json")
    assert report.with_answers(results, tmp_path / "other.json") == results
    lines = report.judged(with_answers)
    found = "0.70 [0.60, 0.80] | 0.70 [0.60, 0.80] | +0.07 [+0.01, +0.12]"
    assert f"| smollm2-135m | `projection-difference`, pairs | 19 of 29 | {found} |" in lines
    table = [line.split(" | ") for line in report.sets(with_answers)]
    assert len({len(row) for row in table if "---" not in row[0]}) == 1
    column = table[0].index("`projection-difference`, pairs")
    titles = {row[0].removeprefix("| "): row[column] for row in table[2:]}
    assert titles.pop(results["sets"][name]["title"]) == "0.68"
    assert set(titles.values()) == {"-"}


def test_the_page_holds_the_tables_of_the_results() -> None:
    page = (ROOT / "docs" / "real-text.md").read_text(encoding="utf-8")
    report = part("report")
    results = report.with_answers(json.loads(RESULTS.read_text()), RESULTS)
    for name, lines in report.tables(results).items():
        assert f"<!-- {name} -->\n" + "\n".join(lines) + "\n<!-- end -->" in page
