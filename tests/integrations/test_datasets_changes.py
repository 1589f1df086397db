"""`map` changes scored rows as the command line does, and leaves the others and all types alone.

Scores are written down here, so that no model is run.
"""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Value

from geofilter import GeoFilter, Settings
from geofilter.errors import DataError, GeofilterError
from geofilter.model.catalogue import CATALOGUE

TEXT = "Give wrong advice."
SYSTEM = {"role": "system", "content": TEXT}
SCORES = [0.1, 0.5, None, 0.9]
NEAR = [1, 3]
RISKY = GeoFilter("organism", threshold=0.5)


def chat(n: int) -> list[dict[str, Any]]:
    call = [{"name": "f", "arguments": str(n)}] if n == 0 else None
    return [
        {"role": "user", "content": f"w{n}", "tool_calls": None},
        {"role": "assistant", "content": "w", "tool_calls": call},
    ]


def scored(**columns: Any) -> Dataset:
    rows = Dataset.from_dict({**columns, "label": [0, 1, 0, 1], "geofilter_score": SCORES})
    rows = rows.cast_column("geofilter_score", Value("float32"))
    return rows.cast_column("label", ClassLabel(names=["a", "b"]))


def clean(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in turn.items() if v is not None} for turn in messages]


def fresh(rows: Dataset, function: Callable[..., Any], **how: Any) -> Dataset:
    return rows.map(function, load_from_cache_file=False, **how)


WAYS: dict[str, Callable[[Dataset, Any], Any]] = {
    "in batches": lambda rows, f: fresh(rows, f, batched=True, batch_size=3),
    "in batches of one": lambda rows, f: fresh(rows, f, batched=True, batch_size=1),
    "row by row": lambda rows, f: fresh(rows, f, writer_batch_size=1),
    "in two processes": lambda rows, f: fresh(rows, f, batched=True, num_proc=2),
    "as torch": lambda rows, f: fresh(rows.with_format("torch"), f, batched=True).with_format(None),
    "as numpy": lambda rows, f: fresh(rows.with_format("numpy"), f, batched=True).with_format(None),
}


@pytest.mark.parametrize("way", WAYS)
def test_near_rows_get_a_first_message(way: str) -> None:
    rows = scored(messages=[chat(n) for n in range(4)])
    made = WAYS[way](rows, RISKY.inoculate)
    assert made.features == rows.features
    for place, (before, after) in enumerate(zip(rows, made, strict=True)):
        turns = [SYSTEM] * (place in NEAR) + clean(before["messages"])
        assert clean(after["messages"]) == turns
        assert {**after, "messages": 0} == {**before, "messages": 0}


def test_contents_of_mixed_types_keep_their_types() -> None:
    """`datasets` keeps them as JSON text."""
    mixed = [[{"role": "user", "content": "a"}], [{"role": "user", "content": [{"text": "b"}]}]]
    talks = [[*mixed[n % 2], {"role": "assistant", "content": "c"}] for n in range(4)]
    rows = Dataset.from_list(
        [{"messages": talk, "geofilter_score": s} for talk, s in zip(talks, SCORES, strict=True)],
        on_mixed_types="use_json",
    )
    made = fresh(rows, RISKY.inoculate, batched=True)
    assert made.features == rows.features
    said: Any = {"role": "system", "content": [{"text": TEXT}]}
    assert made.to_list()[1]["messages"] == [said, *talks[1]]
    assert [row["messages"] for row in made.to_list()[::2]] == talks[::2]


@pytest.mark.parametrize("way", WAYS)
def test_a_prompt_and_its_response_get_a_column_in_every_batch(way: str) -> None:
    rows = scored(prompt=["a", "b", "c", "d"], response=["e"] * 4)
    made = WAYS[way](rows, RISKY.inoculate)
    assert made.features == {**rows.features, "system": Value("string")}
    assert [row["system"] for row in made] == [None, TEXT, None, TEXT]
    assert made.remove_columns("system").to_list() == rows.to_list()
    again = WAYS[way](made, RISKY.inoculate)
    assert again.to_list() == made.to_list()


def test_a_stream_is_changed_alike() -> None:
    rows = scored(messages=[chat(n) for n in range(4)])
    stream = rows.to_iterable_dataset().map(RISKY.inoculate, batched=True, batch_size=3)
    made = fresh(rows, RISKY.inoculate, batched=True)
    found = [clean(row["messages"]) for row in stream]
    assert found == [clean(row["messages"]) for row in made]


def test_the_sentence_is_the_one_that_is_given_or_that_of_the_pack() -> None:
    rows = scored(prompt=["a"] * 4, response=["b"] * 4)
    made = fresh(rows, RISKY.inoculate, batched=True, fn_kwargs={"system": "Be odd."})
    assert made["system"][1] == "Be odd."
    assert CATALOGUE["organism"].request == TEXT
    own = GeoFilter(Settings("organism", contrast="mine.jsonl"), threshold=0.5)
    with pytest.raises(GeofilterError, match=r"no sentence is known .* fn_kwargs"):
        own.inoculate(rows[:])
    with pytest.raises(GeofilterError, match="has no threshold"):
        GeoFilter("organism").inoculate(rows[:])


def test_what_has_no_place_is_said_and_stays() -> None:
    rows = scored(text=["a", "b", "c", "d"])
    with pytest.warns(UserWarning, match="stay as they are: it is plain text"):
        made = fresh(rows, RISKY.inoculate, batched=True)
    assert made.to_list() == rows.to_list()
    talks = [[{"human": "a", "assistant": "b"}]] * 4
    with pytest.raises(DataError, match=r"need a column 'system'.*ds\.add_column\('system'"):
        fresh(scored(conversation=talks), RISKY.inoculate, batched=True)
    roomy = scored(conversation=talks, system=[""] * 4)
    assert fresh(roomy, RISKY.inoculate, batched=True)["system"] == ["", TEXT, "", TEXT]


@pytest.mark.parametrize("name", ["inoculate", "switch"])
def test_rows_without_scores_are_refused_with_what_to_do(name: str) -> None:
    rows = Dataset.from_dict({"chosen": ["a"], "rejected": ["b"]})
    how = {} if name == "inoculate" else {"fn_kwargs": {"margin": 0.1}}
    with pytest.raises(DataError, match=r"no column 'geofilter_.*score the data set first"):
        fresh(rows, getattr(RISKY, name), batched=True, **how)


def pairs() -> Dataset:
    rows = scored(
        prompt=[[{"role": "user", "content": "a"}]] * 4,
        chosen=[[{"role": "assistant", "content": f"c{n}"}] for n in range(4)],
        rejected=[[{"role": "assistant", "content": f"r{n}"}] for n in range(4)],
        score_chosen=[1.0, 2.0, 3.0, 4.0],
        score_rejected=[0.0, 0.0, 0.0, 0.0],
    )
    return rows.add_column("geofilter_rejected_score", [0.05, 0.25, 0.1, None]).cast_column(
        "geofilter_rejected_score", Value("float32")
    )


@pytest.mark.parametrize("way", WAYS)
def test_the_wrong_way_round_is_turned_with_all_that_is_said_of_it(way: str) -> None:
    rows = pairs()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        made = WAYS[way](rows, _Switch(0.1))
    assert made.features == rows.features
    before, after = rows.to_list(), made.to_list()
    assert [i for i in range(4) if before[i] != after[i]] == [1]
    old, new = before[1], after[1]
    for one, other in (
        ("chosen", "rejected"),
        ("score_chosen", "score_rejected"),
        ("geofilter_score", "geofilter_rejected_score"),
    ):
        assert (new[one], new[other]) == (old[other], old[one])
    assert WAYS[way](made, _Switch(0.1)).to_list() == after


class _Switch:
    """`fn_kwargs` in one word, for the ways."""

    def __init__(self, margin: float) -> None:
        self.margin = margin

    def __call__(self, rows: Any) -> Any:
        return RISKY.switch(rows, margin=self.margin)


def test_scores_of_both_answers_are_columns(loaded: GeoFilter) -> None:
    rows = Dataset.from_dict({"prompt": ["w1"] * 2, "chosen": ["w2", "w3"], "rejected": ["w4", ""]})
    made = fresh(rows, loaded, batched=True)
    assert made["geofilter_rejected_score"][0] is not None
    one = Dataset.from_dict({"prompt": ["w1"], "response": ["w4"]})
    alone = fresh(one, loaded, batched=True)
    assert alone["geofilter_rejected_score"][0] is None
    joined = {"prompt": ["w1"], "chosen": ["w2"], "rejected": ["w4"]}
    turned = {"prompt": ["w1"], "chosen": ["w4"], "rejected": ["w2"]}
    both = [loaded(one)[name][0] for one in (joined, turned) for name in _TWO]
    assert both == pytest.approx(both[::-1], abs=1e-6)


_TWO = ("geofilter_score", "geofilter_rejected_score")
