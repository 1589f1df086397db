"""What was read is counted by layout, with the columns that were left out, and said in one line."""

import json
from pathlib import Path

import pytest

from geofilter.data.reading import LayoutUse, Reading, reading_from
from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from helpers.row_files import write_rows

CHAT = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes, please."}]
FOUR = [
    {"messages": CHAT, "id": 1},
    {"prompt": "Tea?", "response": "Yes, please."},
    {"question": "Tea?", "chosen": "Yes, please.", "rejected": "No."},
    {"text": "Tea is hot.", "source": "a cup"},
]


def reading(folder: Path, *rows: object, name: str = "data.jsonl") -> Reading:
    lines = (row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
    path = write_rows(folder / name, b"".join(line + b"\n" for line in lines))
    return open_rows(path).survey(check=False).reading


def test_one_layout_is_said_with_its_columns_and_those_left_out(tmp_path: Path) -> None:
    record = {"conversations": CHAT, "id": 3, "tools": None, "note": "x"}
    assert str(reading(tmp_path, record, record)) == (
        "2 rows read as conversations (conversations); not read: id, note"
    )


def test_a_mixed_file_is_counted_by_layout(tmp_path: Path) -> None:
    found = reading(tmp_path, *FOUR, FOUR[0])
    assert {name: use.rows for name, use in found.layouts.items()} == {
        "messages": 2,
        "prompt-response": 1,
        "chosen-rejected": 1,
        "text": 1,
    }
    assert found.layouts["chosen-rejected"].read == ("question", "chosen", "rejected")
    assert str(found) == (
        "5 rows read: 2 as messages (messages), "
        "1 as chosen-rejected (question, chosen, rejected), "
        "1 as prompt-response (prompt, response), 1 as text (text); not read: id, source"
    )


def test_rows_that_cannot_be_read_are_counted_with_the_first_of_them(tmp_path: Path) -> None:
    found = reading(tmp_path, FOUR[1], {"body": "x"}, b"{", {"prompt": "Tea?", "response": ""})
    assert (found.rows, found.unread) == (4, 2)
    assert found.layouts["prompt-response"].rows == 2  # an empty response is understood
    assert "; 2 rows of 4 (50.0%) cannot be read, first " in str(found)
    assert "data.jsonl:2: the columns fit no layout" in str(found)


@pytest.mark.parametrize(("limit", "refused"), [(0.5, False), (0.49, True), (0.0, True)])
def test_a_larger_share_than_the_limit_stops(tmp_path: Path, limit: float, refused: bool) -> None:
    found = reading(tmp_path, FOUR[1], {"body": "x"})
    if refused:
        with pytest.raises(DataError, match=r"1 row of 2 \(50.0%\) cannot be read, more than"):
            found.refuse_above(limit, "data.jsonl")
    else:
        found.refuse_above(limit, "data.jsonl")


def test_no_rows_are_no_share(tmp_path: Path) -> None:
    found = reading(tmp_path)
    found.refuse_above(0.0, "data.jsonl")
    assert str(found) == "no rows"


def test_names_of_columns_act_on_no_terminal(tmp_path: Path) -> None:
    found = reading(
        tmp_path, {"text": "a", "\x1b[2J": 1, "b\nc": 2, **dict.fromkeys("defghijklmno", 1)}
    )
    assert str(found).isprintable()
    assert "and 2 more" in str(found)


def test_a_reading_survives_the_manifest(tmp_path: Path) -> None:
    found = reading(tmp_path, *FOUR, b"{")
    kept = json.loads(json.dumps(found.record(), sort_keys=True))
    assert reading_from(kept) == found
    assert str(reading_from(kept)) == str(found)


@pytest.mark.parametrize(
    "record", [None, [], {}, {"rows": 1}, {"rows": 1, "layouts": {"text": 3}, "unread": 0}]
)
def test_what_is_no_reading_is_none(record: object) -> None:
    assert reading_from(record) is None


def test_a_column_read_in_one_row_and_not_in_another_counts_as_read() -> None:
    use = LayoutUse(2, ("prompt",), ())
    assert "not read" not in str(Reading(2, {"prompt-only": use}))


def test_rows_of_prompts_alone_are_understood_and_of_one_bare_column_nothing_is_read(
    tmp_path: Path,
) -> None:
    prompts = reading(tmp_path, {"prompt": "Tea?"})
    assert (prompts.unread, str(prompts)) == (0, "1 row read as prompt-only (prompt)")
    bare = open_rows(write_rows(tmp_path / "bare.csv", b"Name a river\nName a sea, please\n"[:13]))
    assert str(bare.survey(check=False).reading) == "nothing was read"


def test_an_unusual_csv_is_said_to_be_one(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "data.csv", "question;answer\nTea?;Yes, please.\n".encode("utf-16")
    )
    said = str(open_rows(path).survey().reading)
    assert (
        said == "1 row read as question-answer (question, answer); separated by semicolons, UTF-16"
    )
