"""A row is read by the columns that it fills, and what cannot be read is not passed on unseen."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets

import geofilter as package
from geofilter import GeoFilter
from geofilter.errors import DataError, GeofilterError
from helpers.filters import make

PAIRS = [{"prompt": "w1", "response": f"w{n} w{n + 1}"} for n in range(12)]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": "w3"},
            {"role": "assistant", "content": f"w{n} w{n + 2}"},
        ]
    }
    for n in range(12)
]
TEXTS = [{"text": f"w{n} w4"} for n in range(12)]
ODD = {"title": "w1"}


def union(*parts: list[dict[str, Any]]) -> Dataset:
    return concatenate_datasets([Dataset.from_list(part) for part in parts])


def scored(geofilter: GeoFilter, rows: Any, **how: Any) -> list[dict[str, Any]]:
    if isinstance(rows, Dataset):
        how["load_from_cache_file"] = False
    return list(rows.map(geofilter, **how))


@pytest.mark.parametrize("way", ["data set", "stream", "row by row", "stream, row by row", "torch"])
def test_rows_of_concatenated_sets_have_the_scores_of_their_own_set(
    loaded: GeoFilter, way: str
) -> None:
    how = {} if "row by row" in way else {"batched": True, "batch_size": 30}
    if "stream" in way:
        how["with_indices"] = True
    rows: Any = union(PAIRS, CHATS, TEXTS)
    if "stream" in way:
        rows = rows.to_iterable_dataset()
    elif way == "torch":
        rows = rows.with_format("torch")
    apart = [
        row["geofilter_score"]
        for part in (PAIRS, CHATS, TEXTS)
        for row in scored(loaded, Dataset.from_list(part), batched=True)
    ]
    together = scored(loaded, rows, **how)
    assert {row["geofilter_status"] for row in together} == {"scored"}
    found = [float(row["geofilter_score"]) for row in together]
    assert found == pytest.approx(apart, abs=1e-6)


def test_a_text_next_to_what_may_answer_it_is_asked_about_as_in_a_file(
    loaded: GeoFilter, tmp_path: Path
) -> None:
    rows = [{"text": "w1 w2", "code": "w3"}] * 2
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reading = package.open_rows(file).survey(check=False).reading
    first, _ = scored(loaded, Dataset.from_list(rows), batched=True)
    assert first["geofilter_status"] == "malformed"
    assert str(reading.first_unread).endswith(first["geofilter_reason"])


# A share of 20 rows, and whether a limit of 10 % stops it.
SHARES = [(0, False), (2, False), (3, True), (20, True)]


@pytest.mark.parametrize(("odd", "stops"), SHARES)
@pytest.mark.parametrize("stream", [False, True], ids=["data set", "stream"])
def test_a_batch_of_which_too_much_cannot_be_read_stops_with_the_first_reason(
    work: Path, loaded: GeoFilter, stream: bool, odd: int, stops: bool
) -> None:
    rows: Any = union(PAIRS + PAIRS[: 20 - 12], [ODD] * odd).select(range(odd, 20 + odd))
    if stream:
        rows = rows.to_iterable_dataset()
    if not stops:
        found = scored(loaded, rows, batched=True, with_indices=True)
        assert sum(row["geofilter_score"] is None for row in found) == odd
        return
    fresh = make(threshold=0.0)
    with pytest.raises(DataError) as error:
        scored(fresh, rows, batched=True, with_indices=True)
    said = str(error.value)
    assert said.startswith(f"{odd} of 20 rows of a batch ({odd / 20:.1%}) cannot be read")
    assert "unread_limit=0.1 allows" in said
    assert f"The first: row {21 - odd}: " in said
    assert fresh._loaded is None, "the model was loaded for rows that it is not to score"


def test_rows_without_a_response_are_read_and_stop_nothing(loaded: GeoFilter) -> None:
    rows = Dataset.from_list([{"prompt": "w1", "response": None}] * 29 + PAIRS[:1])
    assert len(scored(loaded, rows, batched=True)) == 30


def test_a_larger_share_is_allowed_where_it_is_asked_for(work: Path) -> None:
    rows = union(PAIRS, [ODD] * 12)
    allowed = make(unread_limit=0.5)
    columns = {name: rows[name][:] for name in rows.column_names}
    assert len(allowed(columns)["geofilter_score"]) == 24
    for limit in (-0.1, 1.5, float("nan")):
        with pytest.raises(GeofilterError, match="unread_limit"):
            GeoFilter("organism", unread_limit=limit)


@pytest.mark.parametrize("how", [{}, {"batched": True, "batch_size": 6}], ids=str)
def test_rows_that_come_in_few_are_warned_of_once(work: Path, how: dict[str, Any]) -> None:
    rows = union(PAIRS, PAIRS, [ODD] * 18)
    with pytest.warns(UserWarning, match=r"\d of \d\d rows so far cannot be read") as seen:
        assert len(scored(make(), rows, **how)) == 42
    assert sum("so far" in str(one.message) for one in seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        scored(make(unread_limit=0.5), rows, **how)
        scored(make(), union(PAIRS, PAIRS, [ODD] * 2), **how)


def test_scores_of_rows_that_could_not_be_read_come_with_a_warning(loaded: GeoFilter) -> None:
    rows = union(PAIRS, [ODD] * 12)
    one_by_one = rows.map(loaded, load_from_cache_file=False)
    with pytest.warns(UserWarning, match=r"12 of 24 rows \(50\.0%\) could not be .* row 13: "):
        assert GeoFilter.scores(one_by_one).count() == 12
    for few in (one_by_one.select(range(12)), one_by_one.select([0, 23])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            GeoFilter.scores(few)
