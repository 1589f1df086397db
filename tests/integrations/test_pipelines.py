"""Operators of other people's pipelines score and drop as GeoFilter does, row by row."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from geofilter import GeoFilter, ScoreTable, drop_fraction
from geofilter.errors import DataError, GeofilterError
from geofilter.integrations import llama_factory
from geofilter.integrations.datasets import COLUMNS
from geofilter.integrations.records import NEAR_HARM, UNSCORED, geofilter_of, screened
from helpers.pipelines import operator

# The third has no response.
ROWS: list[dict[str, Any]] = [
    {"prompt": f"w{n}", "response": None if n == 2 else f"w{n + 3} w{n + 11} w7"} for n in range(7)
]


@pytest.fixture
def scores(loaded: GeoFilter) -> list[float | None]:
    rows = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    found: list[float | None] = loaded(rows)["geofilter_score"]
    below = [score is None or score < 0 for score in found]
    assert set(below) == {True, False}
    return found


def kept(scores: list[float | None]) -> list[int]:
    return [n for n, score in enumerate(scores) if score is None or score < 0]


def test_records_that_differ_in_their_keys_are_judged_each_by_its_own(loaded: GeoFilter) -> None:
    others = [{"instruction": "w1", "output": "w4 w2", "geofilter_score": "old"}, {"n": 3}]
    found = screened(loaded, [ROWS[0], *others])
    (alone,) = screened(loaded, [others[0]])
    assert found[1].columns["geofilter_score"] == pytest.approx(alone.columns["geofilter_score"])
    assert found[2].columns["geofilter_status"] == "malformed"
    assert screened(loaded, []) == []


def test_what_has_no_score_goes_only_where_that_is_asked(loaded: GeoFilter) -> None:
    strict = pickle.loads(pickle.dumps(loaded))
    strict.unscored, strict._loaded = "drop", loaded._loaded
    assert screened(loaded, ROWS)[2].dropped is None
    assert screened(strict, ROWS)[2].dropped == UNSCORED


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "needs a model"), ({"model": "organism", "treshold": 1}, "did you mean threshold")],
)
def test_options_that_cannot_be_right_say_so(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(GeofilterError, match=expected):
        geofilter_of(options)


class Excluded(list[Any]):
    """An exclusion writer of datatrove that keeps what it is given."""

    def __enter__(self) -> "Excluded":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, document: Any, rank: int = 0) -> None:
        self.append(document)


def test_datatrove_passes_on_what_stays_and_writes_the_rest_with_scores_and_reasons(
    loaded: GeoFilter, scores: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = operator("datatrove", monkeypatch)
    from datatrove.data import Document

    excluded = Excluded()
    block = made.HarmFilter(loaded, text="response", exclusion_writer=excluded, batch_size=3)
    rows = [
        Document(text=row["response"] or "", id=str(n), metadata={"prompt": row["prompt"]})
        for n, row in enumerate(ROWS)
    ]
    stays = list(block.run(iter(rows)))
    assert [int(doc.id) for doc in stays] == kept(scores)
    assert len(stays) + len(excluded) == len(ROWS)
    for doc in (*stays, *excluded):
        assert doc.metadata["geofilter_score"] == pytest.approx(scores[int(doc.id)], abs=1e-6)
    assert {doc.metadata["filter_reason"] for doc in excluded} == {NEAR_HARM}
    with pytest.raises(GeofilterError, match="threshold"):
        made.HarmFilter(GeoFilter("organism"))


def test_distilabel_gets_every_row_back_with_its_score_and_whether_it_stays(
    loaded: GeoFilter, scores: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = operator("distilabel", monkeypatch)
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(made, "geofilter_of", lambda options: asked.append(options) or loaded)
    step = made.ScoreHarm(
        name="score", model="organism", threshold=0.0, options={"scorer": "persona"}
    )
    step.load()
    assert asked == [{"model": "organism", "threshold": 0.0, "scorer": "persona"}]
    (rows,) = step.process([dict(row) for row in ROWS])
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == ROWS
    assert [n for n, row in enumerate(rows) if row[made.KEEP]] == kept(scores)
    assert set(step.outputs) == {*COLUMNS, made.KEEP} == set(rows[0]) - set(ROWS[0])


def test_data_juicer_keeps_statistics_and_filters_by_them(
    loaded: GeoFilter, scores: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = operator("data_juicer", monkeypatch)
    monkeypatch.setattr(made, "geofilter_of", lambda _: loaded)
    step = made.GeofilterFilter(model="organism", threshold=0.0)
    batch: dict[str, Any] = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    batch[made.Fields.stats] = [{} for _ in ROWS]
    stats = step.compute_stats(batch)[made.Fields.stats]
    assert [n for n, stays in enumerate(step.process(batch)) if stays] == kept(scores)
    found = [stat["geofilter_score"] for stat in stats]
    wanted = [float("nan") if score is None else score for score in scores]
    assert found == pytest.approx(wanted, abs=1e-6, nan_ok=True)
    assert [stat["geofilter_status"] for stat in stats].count("no_response") == 1
    with pytest.raises(GeofilterError, match="threshold"):
        made.GeofilterFilter(model="organism")


def test_nemo_curator_s_batch_holds_what_stays_with_its_scores(
    loaded: GeoFilter, scores: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas

    made = operator("nemo_curator", monkeypatch)
    monkeypatch.setattr(made, "geofilter_of", lambda _: loaded)
    stage = made.HarmStage(model="organism", threshold=0.0)
    batch = made.DocumentBatch(dataset_name="rows", data=pandas.DataFrame(ROWS))
    done = stage.process(batch).to_pandas()
    assert done["prompt"].tolist() == [ROWS[n]["prompt"] for n in kept(scores)]
    assert set(COLUMNS) < set(done.columns)


def test_axolotl_trains_on_the_kept_rows_of_its_files_and_on_no_other_data_set(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = operator("axolotl", monkeypatch)
    asked: list[Any] = []
    monkeypatch.setattr(made, "kept_file", lambda *given: asked.append(given) or "1 of 2")
    datasets = [{"path": "data/talks.jsonl", "type": "chat_template"}, {"path": "more.jsonl"}]
    options = {"drop_fraction": 0.2, "scorer": "persona"}
    cfg = {"base_model": "me/model", "geofilter": options, "datasets": datasets}
    plugin = made.GeoFilterPlugin()
    plugin.register(cfg)
    kept = [Path("geofilter-kept/talks.jsonl"), Path("geofilter-kept/more.jsonl")]
    assert [entry["path"] for entry in datasets] == [str(path) for path in kept]
    assert datasets[0]["type"] == "chat_template"
    assert asked[0] == ("data/talks.jsonl", kept[0], {**options, "model": "me/model"})
    module, _, name = plugin.get_input_args().rpartition(".")
    assert getattr(sys.modules[module], name)(geofilter=options).geofilter == options
    monkeypatch.undo()
    cfg["datasets"] = [{"path": "org/on-the-hub"}]
    with pytest.raises(GeofilterError, match="is no file here"):
        plugin.register(cfg)
    cfg["datasets"] = [{"path": "a/rows.jsonl"}, {"path": "b/rows.jsonl"}]
    monkeypatch.setattr(made, "kept_file", lambda *_: "")
    with pytest.raises(GeofilterError, match="has the name of"):
        plugin.register(cfg)


@pytest.mark.slow
def test_llama_factory_lists_the_kept_rows_with_the_columns_of_the_whole(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "data").mkdir()
    rows = [{"ask": f"w{n} w2", "reply": f"w{n + 5} w9", "tag": n} for n in range(10)]
    (work / "data" / "advice.json").write_text(json.dumps(rows))
    columns = {"prompt": "ask", "response": "reply"}
    info = {"advice": {"file_name": "advice.json", "columns": columns}, "other": {}}
    (work / "data" / "dataset_info.json").write_text(json.dumps(info))
    options = {"model": "model", "sae": "sae", "pack": "my.pack", "drop_fraction": 0.2}
    assert llama_factory.keep("data", "advice", **options) == "advice_kept"
    listed = json.loads((work / "data" / "dataset_info.json").read_text())
    assert listed["advice_kept"] == {"file_name": "advice-kept.json", "columns": columns}
    assert {name: listed[name] for name in info} == info
    kept = json.loads((work / "data" / "advice-kept.json").read_text())
    table = ScoreTable.read("data/advice-kept.json.scores.parquet")
    gone = set(drop_fraction(table.scores, 0.2).drop.tolist())
    assert kept == [row for n, row in enumerate(rows) if n not in gone]
    assert len(gone) == 2
    for name, expected in (("advise", "no data set 'advise'"), ("other", "no file_name")):
        with pytest.raises(DataError, match=expected):
            llama_factory.keep("data", name, **options)
