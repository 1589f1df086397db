"""Columns keep their types and errors name their cause, whatever `datasets` hands over."""

from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Value

from geofilter import GeoFilter
from geofilter.errors import DataError
from geofilter.integrations.datasets import COLUMNS
from helpers.filters import make

TEXTS = {"prompt": ["w1"] * 4, "response": ["w2 w3", "w4", "w5", None]}
FORMATS = [None, "numpy", "torch"]


def mapped(geofilter: GeoFilter, rows: Dataset, **how: Any) -> Dataset:
    return rows.map(geofilter, load_from_cache_file=False, **how)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("there", [[True, False, True, False], [0, 0, 1, 1]], ids=str)
def test_no_score_is_cast_to_the_type_of_a_column_that_is_there(
    loaded: GeoFilter, there: list[Any], form: str | None
) -> None:
    rows = Dataset.from_dict({**TEXTS, "geofilter_score": there}).with_format(form)
    with pytest.raises(DataError, match=r"ds\.remove_columns\('geofilter_score'\)"):
        mapped(loaded, rows, batched=True)
    scored = mapped(loaded, rows.with_format(None).remove_columns("geofilter_score"), batched=True)
    assert scored.features["geofilter_score"] == Value("float32")


def test_a_column_of_labels_takes_no_status(loaded: GeoFilter) -> None:
    rows = Dataset.from_dict({**TEXTS, "geofilter_status": [0, 1, 0, 1]})
    rows = rows.cast_column("geofilter_status", ClassLabel(names=["good", "bad"]))
    with pytest.raises(DataError, match="'geofilter_status' is there already"):
        mapped(loaded, rows, batched=True)
    assert mapped(loaded, rows).features["geofilter_status"] == Value("string")


@pytest.mark.parametrize("form", FORMATS)
def test_columns_of_an_earlier_run_are_replaced_in_every_format(
    loaded: GeoFilter, form: str | None
) -> None:
    once = mapped(loaded, Dataset.from_dict(TEXTS), batched=True)
    again = mapped(loaded, once.with_format(form), batched=True).with_format(None)
    assert {name: again.data.schema.field(name).type for name in COLUMNS} == dict(COLUMNS)
    assert again.to_list() == once.to_list()


def test_numpy_s_single_rows_are_refused_for_their_columns_would_have_no_types(
    loaded: GeoFilter,
) -> None:
    rows = Dataset.from_dict(TEXTS).with_format("numpy")
    with pytest.raises(DataError, match=r"one by one and as numpy.*batched=True"):
        mapped(loaded, rows, writer_batch_size=2)


def test_a_data_set_without_rows_has_no_scores_and_needs_none(loaded: GeoFilter) -> None:
    empty = mapped(loaded, Dataset.from_dict({"prompt": [], "response": []}), batched=True)
    scores = GeoFilter.scores(empty)
    assert (len(scores), scores.dtype) == (0, "float32")


@pytest.mark.usefixtures("work")
def test_each_error_names_what_is_in_the_way(loaded: GeoFilter) -> None:
    rows = mapped(loaded, Dataset.from_dict(TEXTS), batched=True)
    with pytest.raises(DataError, match=r"splits 'train'.*take one"):
        GeoFilter.scores(DatasetDict(train=rows))
    for batched in (False, True):
        with pytest.raises(DataError, match="leave input_columns out"):
            mapped(loaded, rows, batched=batched, input_columns=["response"])
        with pytest.raises(DataError, match="leave input_columns out"):
            rows.filter(make(threshold=0.1).keep, batched=batched, input_columns="geofilter_score")
    with pytest.raises(DataError, match="with_format"):
        rows.with_format("arrow").filter(make(threshold=0.1).keep, batched=True)
