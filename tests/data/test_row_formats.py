"""Each format that docs/rows.md names is read as its line there says."""

import re
from pathlib import Path

import pytest

from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import Unscorable
from geofilter.data.reading import Tally
from geofilter.data.samples import Sample
from helpers.row_formats import ANSWER, ASKED_ABOUT, FORMATS

DOCS = Path(__file__).parents[2] / "docs" / "rows.md"


def spelled(sample: Sample) -> list[str]:
    """The turns, with a bar before the first that can be response."""
    turns = [
        f"{turn.role}: {turn.content}" + ("" if turn.trained else " (untrained)")
        for turn in sample.turns
    ]
    return [*turns[: sample.prompt_turns], "|", *turns[sample.prompt_turns :]]


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_read_turn_by_turn(name: str) -> None:
    one = FORMATS[name]
    tally = Tally(Layouts())
    samples = tally.samples(one.record, "data.jsonl:1")
    ((layout, use),) = tally.reading().layouts.items()
    assert (layout, use.not_read) == (one.layout, one.not_read)
    if layout == "text":
        assert samples == (Sample(text=ANSWER),)
        return
    assert spelled(samples[0]) == one.turns
    assert [sample.turns[-1].content for sample in samples[1:]] == (
        [one.second] if one.second else []
    )
    prompts = {sample.turns[: sample.prompt_turns] for sample in samples}
    assert len(prompts) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_padding_with_null_changes_nothing(name: str) -> None:
    one = FORMATS[name]
    padded = {column: None for other in FORMATS.values() for column in other.record} | one.record
    assert Layouts().of(padded).name == one.layout
    assert Layouts().samples(padded) == Layouts().samples(one.record)


@pytest.mark.parametrize("name", ASKED_ABOUT)
def test_what_cannot_be_known_is_asked(name: str) -> None:
    record, reason = ASKED_ABOUT[name]
    with pytest.raises(Unscorable) as caught:
        Layouts().samples(record)
    assert reason in caught.value.problem.reason


def _table() -> dict[str, tuple[str, str, str]]:
    """Format -> columns, layout and columns not read, as the documentation has them."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("| format |"))
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, _, columns, layout, missed = (cell.strip() for cell in line.strip("|").split(" | "))
        found[name.strip()] = (columns, layout, missed)
    return found


def test_the_documentation_has_a_line_for_each_format_and_no_other() -> None:
    assert _table().keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_line_of_the_documentation_names_the_columns_and_the_layout(name: str) -> None:
    columns, layout, missed = _table()[name]
    one = FORMATS[name]
    named = set(re.findall(r"`([^`]+)`", columns))
    assert named == one.record.keys() - set(one.not_read)
    assert layout == f"`{one.layout}`"
    assert tuple(re.findall(r"`([^`]+)`", missed)) == one.not_read
