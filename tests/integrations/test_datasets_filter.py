"""`filter` takes what a function gives for an answer: a GeoFilter refuses, however it is called."""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, IterableDatasetDict

from geofilter import GeoFilter
from geofilter.errors import DataError
from geofilter.integrations.batches import Added
from helpers.filters import make

# Seven columns are added: a batch of seven rows has as many answers as the columns are.
ROWS = {"prompt": ["w1"] * 7, "response": [f"w{n} w{n + 9}" for n in range(7)]}
TALK = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]
MAP_FIRST = r"map first, then filter with screen\.keep"
HOW: list[dict[str, Any]] = [
    {},
    {"batched": True},
    {"batched": True, "batch_size": 4},
    {"batched": True, "batch_size": 1},
    {"with_indices": True},
    {"with_indices": True, "batched": True},
]
ONE_BY_ONE: list[dict[str, Any]] = [{"input_columns": ["prompt"]}, {"input_columns": "response"}]


def filtered(source: Any, function: Callable[..., Any], **how: Any) -> list[Any]:
    if isinstance(source, Dataset):
        how["load_from_cache_file"] = False
    return list(source.filter(function, **how))


# A data set has no single rows of Arrow for a filter; `datasets` fails before it calls.
CALLS = [
    pytest.param(stream, form, how, id=f"{'stream' if stream else 'data set'} {form} {how}")
    for stream in (False, True)
    for form in (None, "numpy", "torch", "pandas", "arrow")
    for how in (*HOW, *ONE_BY_ONE)
    if form != "arrow" or stream or how.get("batched")
]


@pytest.mark.parametrize(("stream", "form", "how"), CALLS)
def test_a_filter_that_is_called_with_it_is_refused_before_the_model_is_loaded(
    work: object, stream: bool, form: str | None, how: dict[str, Any]
) -> None:
    rows = Dataset.from_dict(ROWS).with_format(form)
    source = rows.to_iterable_dataset() if stream else rows
    geofilter = make(threshold=0.0)
    for function in (geofilter, partial(geofilter), geofilter.__call__):
        with pytest.raises(DataError, match=MAP_FIRST):
            filtered(source, function, **how)
    assert geofilter._loaded is None


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("form", [None, "numpy", "torch"])
def test_an_answer_passed_on_by_another_function_keeps_no_row(
    loaded: GeoFilter, form: str | None, how: dict[str, Any]
) -> None:
    if form == "numpy" and not how.get("batched"):
        how = {**how, "batched": True}
    rows = Dataset.from_dict(ROWS).with_format(form)
    with pytest.raises(DataError, match=MAP_FIRST):
        filtered(rows, lambda *given: loaded(*given), **how)


@pytest.mark.parametrize("how", HOW, ids=str)
def test_an_answer_passed_on_in_a_stream_keeps_no_row(
    loaded: GeoFilter, how: dict[str, Any]
) -> None:
    stream = Dataset.from_dict(ROWS).to_iterable_dataset()
    # The lengths of a batch and of its answer may differ, of which `datasets` speaks first.
    with pytest.raises((DataError, ValueError), match=f"{MAP_FIRST}|mismatch"):
        filtered(stream, lambda *given: loaded(*given), **how)


def test_a_row_that_looks_like_a_batch_is_refused_too(work: object) -> None:
    rows = Dataset.from_dict({"messages": [[TALK]] * 3})
    for source in (rows, rows.to_iterable_dataset()):
        with pytest.raises(DataError, match=MAP_FIRST):
            filtered(source, make(threshold=0.0))


@pytest.mark.parametrize("splits", [DatasetDict, IterableDatasetDict])
def test_splits_are_mapped_and_filtered_like_one_data_set(
    loaded: GeoFilter, splits: type[Any]
) -> None:
    rows: Any = Dataset.from_dict(ROWS)
    if splits is IterableDatasetDict:
        rows = rows.to_iterable_dataset()
    both = splits(train=rows, test=rows)
    with pytest.raises(DataError, match=MAP_FIRST):
        list(both.filter(loaded)["train"])
    scored = both.map(loaded, batched=True)
    kept = scored.filter(loaded.keep)
    for name in ("train", "test"):
        below = [row for row in scored[name] if row["geofilter_score"] < 0]
        assert list(kept[name]) == below


@pytest.mark.slow
@pytest.mark.parametrize("batched", [False, True])
def test_other_processes_refuse_as_well(loaded: GeoFilter, batched: bool) -> None:
    rows = Dataset.from_dict(ROWS)
    for function in (loaded, lambda given: loaded(given)):
        with pytest.raises(DataError, match=MAP_FIRST):
            filtered(rows, function, batched=batched, num_proc=2)


def test_a_filter_may_use_a_score_of_its_own_call(loaded: GeoFilter) -> None:
    rows = Dataset.from_dict(ROWS)
    scores = [loaded(row)["geofilter_score"] for row in rows]
    kept = rows.filter(lambda row: loaded(row)["geofilter_score"] < 0)
    assert len(kept) == sum(score < 0 for score in scores)


def test_the_columns_are_a_plain_dictionary_in_all_but_their_truth(loaded: GeoFilter) -> None:
    one, several = loaded({"prompt": "w1", "response": "w2"}), loaded(ROWS)
    for answer in (one, several):
        assert isinstance(answer, dict)
        assert pickle.loads(pickle.dumps(answer)) == answer == dict(answer.items())
        assert {type(name) for name in ({"n": 1} | answer)} == {str}
        assert {type(name) for name in {**answer}} == {str}
        with pytest.raises(KeyError):
            answer["score"]
        with pytest.raises(DataError, match=MAP_FIRST):
            answer[0]
    with pytest.raises(DataError, match=MAP_FIRST):
        bool(one)
    again = pickle.loads(pickle.dumps(several))
    assert isinstance(again, Added)
    assert bool(again)


def test_names_of_columns_that_were_added_are_plain_text_in_a_stream(loaded: GeoFilter) -> None:
    stream = Dataset.from_dict(ROWS).to_iterable_dataset()
    for how in ({}, {"batched": True}):
        (row, *_) = stream.map(loaded, **how)
        assert {type(name) for name in row} == {str}


def test_with_a_number_of_its_process_a_row_is_refused(loaded: GeoFilter) -> None:
    rows = Dataset.from_dict(ROWS)
    with pytest.raises(DataError, match="leave input_columns out, and with_rank"):
        rows.map(loaded, with_indices=True, with_rank=True, load_from_cache_file=False)
