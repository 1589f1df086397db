"""Rows that are in memory, as a frame, a list or a data set: one line says what to do with them."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

import geofilter as package
from geofilter import GeoFilter, Settings
from geofilter.errors import DataError, GeofilterError

ROWS = [{"prompt": "w1", "response": "w2 w3"}, {"prompt": "w1", "response": "w4"}]
BY_HAND = GeoFilter("organism", threshold=0.1)
DATA_SET = Dataset.from_list(ROWS)
POLARS = type("DataFrame", (), {"__module__": "polars.dataframe.frame", "columns": ["prompt"]})
LAZY = type("LazyFrame", (), {"__module__": "polars.lazyframe.frame"})

# What it is, and the expression that makes a data set of it.
IN_MEMORY: dict[str, tuple[Any, str]] = {
    "a pandas DataFrame": (pd.DataFrame(ROWS), "Dataset.from_pandas(rows)"),
    "a polars DataFrame": (POLARS(), "Dataset.from_polars(rows)"),
    "a polars LazyFrame": (LAZY(), "Dataset.from_polars(rows.collect())"),
    "an Arrow table": (pa.Table.from_pylist(ROWS), "Dataset(rows)"),
    "a list": (ROWS, "Dataset.from_list(rows)"),
    "a tuple": (tuple(ROWS), "Dataset.from_list(list(rows))"),
}
OF_DATASETS: dict[str, Any] = {
    "a Dataset": DATA_SET,
    "a stream": DATA_SET.to_iterable_dataset(),
    "a DatasetDict": DatasetDict(train=DATA_SET),
}
OPENED: dict[str, Callable[[Any], object]] = {
    "open_rows": package.open_rows,
    "score": lambda rows: package.score(rows, Settings("organism")),
    "filter_rows": lambda rows: package.filter_rows(
        rows, "data.scores.parquet", "kept.jsonl", threshold=0.1
    ),
    "rescore": lambda rows: package.rescore(rows, "f.parquet"),
}


def line_of(call: Callable[[Any], object], rows: Any) -> str:
    with pytest.raises(GeofilterError) as error:
        call(rows)
    line = str(error.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_geofilter_says_how_to_make_a_data_set_of_what_is_none(name: str) -> None:
    rows, made = IN_MEMORY[name]
    mapped = line_of(BY_HAND, rows)
    assert mapped.startswith(f"the rows came as {name}, not")
    assert f"{made}.map(screen, batched=True)" in mapped
    assert f"{made}.filter(screen.keep)" in line_of(BY_HAND.keep, rows) or (
        name == "a pandas DataFrame"  # whose columns have names: it is a batch without scores
    )
    assert f"GeoFilter.scores({made})" in line_of(GeoFilter.scores, rows)


@pytest.mark.parametrize("name", OF_DATASETS)
def test_a_data_set_calls_a_geofilter_and_not_the_other_way_round(name: str) -> None:
    rows = OF_DATASETS[name]
    assert "ds.map(screen, batched=True)" in line_of(BY_HAND, rows)
    assert "ds.filter(screen.keep)" in line_of(BY_HAND.keep, rows)


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("call", OPENED)
@pytest.mark.parametrize("name", [*IN_MEMORY, *OF_DATASETS])
def test_what_is_no_name_of_a_file_is_refused_with_a_way_to_make_one(call: str, name: str) -> None:
    rows = IN_MEMORY[name][0] if name in IN_MEMORY else OF_DATASETS[name]
    line = line_of(OPENED[call], rows)
    assert line.startswith(f"the data is {name}, not the name of a file")
    assert ".map(GeoFilter(...), batched=True)" in line
    assert ("rows.jsonl" in line or "rows.parquet" in line) is (name != "a stream")


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("call", OPENED)
@pytest.mark.parametrize("value", [None, 3, b"train.jsonl"], ids=str)
def test_no_other_value_is_the_name_of_a_file_either(call: str, value: object) -> None:
    assert "give a name, such as 'train.jsonl'" in line_of(OPENED[call], value)


@pytest.mark.parametrize("value", [None, 3, "text"], ids=str)
def test_what_holds_no_rows_is_refused_in_one_line(value: Any) -> None:
    assert "not as columns by name" in line_of(BY_HAND, value)
    assert "not as columns by name" in line_of(BY_HAND.keep, value)
    assert "not a Dataset" in line_of(GeoFilter.scores, value)


def test_the_expressions_make_data_sets_of_what_they_name(tmp_path: Any, loaded: GeoFilter) -> None:
    for name, (rows, made) in IN_MEMORY.items():
        if "polars" not in name:
            data_set = eval(made, {"Dataset": Dataset, "rows": rows})
            assert data_set.map(loaded, batched=True)["geofilter_status"][:] == ["scored"] * 2


@pytest.mark.parametrize("form", ["pandas", "arrow"])
@pytest.mark.parametrize("stream", [False, True], ids=["data set", "stream"])
def test_rows_in_the_format_of_a_frame_name_the_way_back(
    loaded: GeoFilter, form: str, stream: bool
) -> None:
    rows = DATA_SET.with_format(form)
    source = rows.to_iterable_dataset() if stream else rows
    for batched in (False, True):
        with pytest.raises(DataError, match=r"take a data set's format off with ds\.with_format"):
            list(source.map(loaded, batched=batched))
