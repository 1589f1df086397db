"""GeoFilter gives a `datasets` data set the command line's scores, wherever it is run.

On a tiny model of random weights, in the folder of `cli_folder`: its table was made by the
command line from the same rows.
"""

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, IterableDataset, Value
from hypothesis import given, settings
from hypothesis import strategies as st

import geofilter as package
from geofilter import GeoFilter
from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import Unscorable
from geofilter.errors import DataError, GeofilterError
from geofilter.integrations.batches import rows_of
from geofilter.integrations.datasets import COLUMNS
from geofilter.scoring.table import ScoreTable
from helpers.filters import make, records

# How far padding beside other rows may move a score; see `test_activations`.
ROUNDING = 1e-6


def mapped(geofilter: GeoFilter, rows: Dataset, **how: Any) -> Dataset:
    return rows.map(geofilter, load_from_cache_file=False, **how)


def batched(geofilter: GeoFilter, rows: Dataset) -> list[dict[str, Any]]:
    return mapped(geofilter, rows, batched=True, batch_size=16).to_list()


WAYS: dict[str, Callable[[GeoFilter, Dataset], Sequence[dict[str, Any]]]] = {
    "in batches": batched,
    "row by row": lambda g, rows: mapped(g, rows).to_list(),
    "in two processes": lambda g, rows: mapped(g, rows, batched=True, num_proc=2).to_list(),
    "streaming": lambda g, rows: list(
        rows.to_iterable_dataset().map(g, batched=True, batch_size=16)
    ),
    "streaming row by row": lambda g, rows: list(rows.to_iterable_dataset().map(g)),
    "as numpy": lambda g, rows: batched(g, rows.with_format("numpy")),
    "as torch": lambda g, rows: batched(g, rows.with_format("torch")),
    "called by hand": lambda g, rows: [row | g(row) for row in rows],
}


@pytest.mark.parametrize("way", WAYS)
def test_the_columns_are_those_of_the_command_line_in_the_order_of_the_rows(
    way: str, work: Path, loaded: GeoFilter
) -> None:
    table = ScoreTable.read("data.scores.parquet")
    rows = WAYS[way](loaded, Dataset.from_list(records()))
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in records()]
    for name in ("status", "reason", "n_tokens", "nearest_feature"):
        assert [row[f"geofilter_{name}"] for row in rows] == table.column(name).tolist()
    for name in ("score", "nearest_similarity"):
        found = [row[f"geofilter_{name}"] for row in rows]
        assert found == pytest.approx(table.column(name).tolist(), abs=ROUNDING)


BAD: list[Any] = [
    None,
    3,
    "",
    " \n",
    ["a", None],
    {"role": "user"},
    b"\xff",
    1.5,
    True,
    "x" * 99_999,
]


@pytest.mark.parametrize("response", BAD, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("prompt", ["w1", None, 7, [{"role": None, "content": [None]}]])
def test_no_value_raises_and_what_is_unscored_says_why(
    loaded: GeoFilter, prompt: Any, response: Any
) -> None:
    found = loaded({"prompt": [prompt, "w1"], "response": [response, "w2 w3"]})
    assert found["geofilter_score"][1] is not None
    if found["geofilter_score"][0] is None:
        assert found["geofilter_status"][0] in {"malformed", "no_response", "empty"}
        assert found["geofilter_reason"][0]
    else:
        assert isinstance(prompt, str)
        assert isinstance(response, str)


def test_a_row_that_is_nested_too_deep_or_holds_half_a_character_is_unscored(
    loaded: GeoFilter,
) -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    found = loaded({"prompt": [deep, "w1"], "response": ["w2", "w2 \ud800"]})
    assert found["geofilter_status"] == ["unreadable", "malformed"]


def test_text_that_is_not_utf_8_is_the_fault_of_its_row_alone(loaded: GeoFilter) -> None:
    broken = pa.array([b"w1 w2", b"\xff", b"w3"]).view(pa.utf8())
    rows = Dataset(pa.table({"prompt": ["w1"] * 3, "response": broken}))
    scored = mapped(loaded, rows, batched=True).remove_columns("response")
    assert scored["geofilter_status"][:] == ["scored", "unreadable", "scored"]
    assert "0xff" in scored["geofilter_reason"][1]


def test_a_date_that_python_cannot_hold_is_the_fault_of_its_row_alone(loaded: GeoFilter) -> None:
    dates = pa.array([0, 2**58, 1], pa.timestamp("us"))
    rows = Dataset(pa.table({"prompt": dates, "response": ["w1 w2"] * 3}))
    scored = mapped(loaded, rows, batched=True).remove_columns("prompt")
    assert scored["geofilter_status"][:] == ["malformed", "unreadable", "malformed"]
    assert "timestamp[us]" in scored["geofilter_reason"][1]


@pytest.mark.parametrize("how", [{"batched": True, "batch_size": 2}, {"writer_batch_size": 2}])
def test_types_hold_where_the_first_rows_are_all_unscored(
    loaded: GeoFilter, how: dict[str, Any]
) -> None:
    rows = Dataset.from_dict({"prompt": ["w1"] * 4, "response": [None, None, "w2 w3", "w4"]})
    scored = mapped(loaded, rows, **how)
    assert {name: scored.data.schema.field(name).type for name in COLUMNS} == dict(COLUMNS)
    assert [score is None for score in scored["geofilter_score"]] == [True, True, False, False]


def test_a_stream_states_its_types_with_features(loaded: GeoFilter) -> None:
    rows = Dataset.from_dict({"prompt": ["w1"] * 2, "response": [None, "w2 w3"]})
    stream = rows.to_iterable_dataset()
    scored = stream.map(loaded, batched=True, batch_size=1, features=loaded.features(stream))
    assert scored.features["geofilter_score"] == Value("float32")
    assert [row["geofilter_status"] for row in scored] == ["no_response", "scored"]
    with pytest.raises(DataError, match="types"):
        loaded.features(stream.map(loaded))


def test_a_stream_keeps_nothing_back(loaded: GeoFilter) -> None:
    def endless() -> Any:
        number = 0
        while True:
            yield {"prompt": "w1", "response": f"w{number % 50}"}
            number += 1

    stream = IterableDataset.from_generator(endless).map(loaded, batched=True, batch_size=4)
    assert len(list(stream.take(6))) == 6


def test_the_data_set_s_own_columns_stay_as_they_are(loaded: GeoFilter) -> None:
    rows = Dataset.from_dict({"prompt": ["w1"], "response": ["w2"], "n": [1]})
    rows = rows.cast_column("n", Value("int8")).cast_column("prompt", Value("large_string"))
    scored = mapped(loaded, rows, batched=True)
    assert {name: scored.features[name] for name in rows.features} == dict(rows.features)


def test_no_column_is_spelled_anew_for_having_been_read(loaded: GeoFilter) -> None:
    left: list[set[str]] = []

    def look(batch: Any) -> None:
        loaded(batch)
        left.append(set(batch.keys_to_format))

    Dataset.from_dict({"prompt": ["w1"], "response": ["w2"]}).map(look, batched=True)
    assert left == [{"prompt", "response"}]


def test_scores_of_an_earlier_run_are_replaced(loaded: GeoFilter) -> None:
    rows = Dataset.from_dict({"prompt": ["w1"], "response": ["w2"], "geofilter_score": [9.0]})
    (score,) = mapped(loaded, rows, batched=True)["geofilter_score"]
    assert -1 <= score <= 1


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"text": "w1 w2"}, None),
        ({"instruction": "w1", "input": "w3", "output": "w2"}, None),
        ({"prompt": "w1", "completion": "w2"}, None),
        ({"prompt": [{"role": "user", "content": "w1"}], "chosen": "w2", "rejected": "w3"}, None),
        (
            {"conversations": [{"from": "human", "value": "w1"}, {"from": "gpt", "value": "w2"}]},
            None,
        ),
        ({"ask": "w1", "reply": "w2"}, {"prompt": "ask", "response": "reply"}),
    ],
    ids=lambda value: "+".join(value) if value else "",
)
def test_every_layout_is_known_for_a_batch_and_for_a_row(
    loaded: GeoFilter, row: dict[str, Any], columns: dict[str, str] | None
) -> None:
    chosen = pickle.loads(pickle.dumps(loaded))
    chosen._loaded = loaded._loaded
    chosen.layouts = Layouts(columns=columns or {})
    one = chosen(row)
    assert one["geofilter_status"] == "scored", one
    several = chosen({name: [value, value] for name, value in row.items()})
    assert several["geofilter_score"] == pytest.approx([one["geofilter_score"]] * 2, abs=ROUNDING)


TALK = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]
NO_TALK: list[Any] = [
    [],
    ["hi", "there"],
    [{"content": "w1"}],
    [*TALK, "w1"],
    [None, "w1"],
    [3],
]
# What a plain dictionary does not tell from the other kind; the index of a row does.
ODD_TALK: list[Any] = [[TALK], [[]], [None], TALK[0], "w1", None]


def streamed(values: list[Any], geofilter: GeoFilter, **how: Any) -> list[str]:
    def rows() -> Any:
        yield from ({"messages": value} for value in values)

    stream = IterableDataset.from_generator(rows).map(geofilter, **how)
    return [row["geofilter_status"] for row in stream]


@pytest.mark.parametrize("value", NO_TALK, ids=str)
def test_a_row_of_a_stream_is_a_row_whatever_stands_for_its_conversation(
    loaded: GeoFilter, value: list[Any]
) -> None:
    good, found, again = streamed([TALK, value, TALK], loaded)
    assert (good, again) == ("scored", "scored")
    assert found in {"malformed", "no_response"}
    assert streamed([TALK, value], loaded, batched=True) == ["scored", found]


@pytest.mark.parametrize("value", [*NO_TALK, *ODD_TALK], ids=str)
def test_with_indices_rows_and_batches_are_never_taken_for_each_other(
    loaded: GeoFilter, value: Any
) -> None:
    alone = streamed([value] * 2, loaded, with_indices=True)
    assert streamed([value] * 2, loaded, with_indices=True, batched=True) == alone
    assert set(alone) <= {"malformed", "no_response"}
    rows = Dataset.from_dict({"prompt": ["w1"] * 3, "response": ["w2"] * 3})
    for how in ({}, {"batched": True}):
        scored = mapped(loaded, rows, with_indices=True, **how)
        assert scored["geofilter_status"][:] == ["scored"] * 3


def test_columns_that_are_all_empty_are_a_row(loaded: GeoFilter) -> None:
    assert loaded({"prompt": [], "completion": []})["geofilter_score"] is None
    assert loaded({"prompt": ["w1", "w2"], "completion": ["w3", "w4"]})["geofilter_score"][1]


def test_columns_of_no_layout_leave_every_row_unscored(loaded: GeoFilter) -> None:
    found = loaded({"title": ["w1", "w2"]})
    assert found["geofilter_status"] == ["malformed"] * 2
    assert "title" in found["geofilter_reason"][0]


# What Arrow makes of rows whose objects have different keys

WORDS = st.text("abc é", max_size=4)
ARGUMENTS = st.dictionaries(st.sampled_from(["city", "day", "unit"]), WORDS, min_size=1)
CALLS = st.lists(
    st.builds(lambda given: {"function": {"name": "f", "arguments": given}}, ARGUMENTS), max_size=2
)
OPENAI = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": WORDS},
    optional={"tool_calls": CALLS, "reasoning_content": WORDS, "name": WORDS},
)
SHAREGPT = st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt"]), "value": WORDS})
TOOLS = st.lists(
    st.builds(lambda given: {"name": "f", "parameters": given}, ARGUMENTS), min_size=1, max_size=2
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"messages": st.lists(OPENAI, max_size=3) | st.lists(SHAREGPT, max_size=3)},
        optional={"tools": TOOLS},
    ),
    min_size=1,
    max_size=4,
)


def read(layout: Layouts, row: Any) -> object:
    try:
        return layout.samples(row)
    except Unscorable as unscorable:
        return unscorable.problem.status


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_a_row_reads_the_same_from_arrow_as_from_json(rows: list[dict[str, Any]]) -> None:
    layout = Layouts()
    plain = [{"messages": None, "tools": None} | row for row in rows]
    seen: list[Any] = []

    def look(batch: Any) -> None:
        seen.extend(rows_of(batch, ["messages", "tools"], True))

    Dataset.from_list(plain).map(look, batched=True)
    assert [read(layout, row.record) for row in seen] == [read(layout, row) for row in rows]


def test_objects_of_mixed_types_read_the_same_from_every_file_and_stream(tmp_path: Path) -> None:
    def row(arguments: dict[str, Any]) -> dict[str, Any]:
        call = {"function": {"name": "go", "arguments": arguments}}
        asked = {"role": "user", "content": "w1"}
        return {"messages": [asked, {"role": "assistant", "content": "", "tool_calls": [call]}]}

    rows = [row({"a": 1}), row({"a": "x", "b": [1, "y"]}), row({"c": {"d": 2}})]
    Path(tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    layout = Layouts()
    wanted = [layout.samples(one) for one in rows]
    arrow = Dataset.from_json(str(tmp_path / "rows.jsonl"), cache_dir=str(tmp_path / "cache"))
    arrow.to_parquet(tmp_path / "rows.parquet")
    arrow.save_to_disk(tmp_path / "saved")
    for name in ("rows.jsonl", "rows.parquet", "saved"):
        file = package.open_rows(tmp_path / name)
        assert [file.layouts.samples(one.record) for one in file] == wanted, name
    for source in (arrow, arrow.to_iterable_dataset()):
        seen: list[Any] = []

        def look(batch: Any, seen: list[Any] = seen) -> dict[str, Any]:
            seen.extend(rows_of(batch, ["messages"], True))
            return {"n": [0] * len(batch["messages"])}

        list(source.map(look, batched=True))
        assert [layout.samples(one.record) for one in seen] == wanted


# Choosing


def test_keep_keeps_what_the_selection_keeps(work: Path, loaded: GeoFilter) -> None:
    scores = ScoreTable.read("data.scores.parquet").scores
    rows = Dataset.from_list([*records(), {"prompt": "w1", "response": None}])
    scored = mapped(loaded, rows, batched=True)
    cut = float(np.ma.median(scores))
    wanted = [*package.threshold(GeoFilter.scores(scored)[:-1], cut).keep.tolist(), len(scores)]
    for unscored, end in (("keep", None), ("drop", -1)):
        chosen = make(threshold=cut, unscored=unscored)
        kept = [rows[place]["prompt"] for place in wanted[:end]]
        assert scored.filter(chosen.keep)["prompt"][:] == kept
        assert scored.filter(chosen.keep, batched=True)["prompt"][:] == kept
        stream = scored.to_iterable_dataset().filter(chosen.keep)
        assert [row["prompt"] for row in stream] == kept
        as_numpy = scored.with_format("numpy").filter(chosen.keep, batched=True)
        assert list(as_numpy["prompt"]) == kept


def test_a_fraction_is_chosen_with_the_scores_of_all_rows(loaded: GeoFilter) -> None:
    rows = Dataset.from_list(
        [{"prompt": "w1", "response": f"w{n} w{n + 9}" if n else None} for n in range(21)]
    )
    scored = mapped(loaded, rows, batched=True).shuffle(seed=1)
    scores = GeoFilter.scores(scored)
    assert scores.dtype == np.float32
    kept = scored.select(package.drop_fraction(scores, 0.2).keep)
    assert len(kept) == 17
    assert None in kept["geofilter_score"][:]
    top = sorted(filter(None, scored["geofilter_score"]))[-4:]
    assert not set(top) & set(kept["geofilter_score"])


def test_what_was_not_scored_or_has_no_threshold_says_what_to_do(loaded: GeoFilter) -> None:
    rows = Dataset.from_dict({"prompt": ["w1"], "response": ["w2"]})
    with pytest.raises(DataError, match=r"ds\.map"):
        loaded.keep(rows[0])
    with pytest.raises(DataError, match=r"ds\.map"):
        GeoFilter.scores(rows)
    with pytest.raises(DataError, match="stream"):
        GeoFilter.scores(rows.to_iterable_dataset())
    with pytest.raises(GeofilterError, match=r"threshold=0\.4"):
        GeoFilter("organism").keep({"geofilter_score": 0.1})
    with pytest.raises(DataError, match="with_format"):
        rows.with_format("arrow").map(loaded, batched=True)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": "organsim"}, "did you mean organism"),
        ({"scorer": "nearst"}, "choose one of nearest"),
        ({"proximity": "far"}, "is not one of mean, nearest"),
        ({"unscored": "ask"}, "is not one of keep, drop"),
        ({"threshold": float("nan")}, "threshold"),
        ({"max_length": 0}, "1 or more"),
        ({"layout": "chat"}, "choose from openai-preference"),
        ({"columns": {"answers": "x"}}, "no column of any layout"),
    ],
)
def test_a_wrong_setting_is_told_at_once(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(GeofilterError, match=told):
        make(**{"model": "organism"} | settings)
