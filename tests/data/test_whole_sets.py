"""A JSON file whose one value is a whole data set is refused with the way to its rows."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset

from geofilter.data.formats import whole_sets
from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from helpers.cli_folder import Geofilter
from helpers.row_formats import FORMATS

ROWS = [{"question": "Is tea hot?", "answer": "Yes."}, {"question": "Is ice?", "answer": "No."}]
ODD = [{"frage": "Ist Tee warm?", "antwort": "Ja."}]
CHAT = [{"role": "user", "content": "Is tea hot?"}, {"role": "assistant", "content": "Yes."}]
FRAME = pd.DataFrame(ROWS)
NAMED = pd.DataFrame(ROWS, index=["first", "second"])
RECORDS = 'pandas: orient="records" '
COLUMNS = "is one object that holds columns, not rows"

WHOLE: list[tuple[str, object, str]] = [
    (
        "a list under a key",
        {"version": "1", "data": ROWS},
        'is one object; its key "data" holds a list of 2 objects: write that list alone into '
        "the file, as in jq -c '.data[]' OLD.json > NEW.jsonl",
    ),
    ("one row", {"data": ROWS[:1]}, 'its key "data" holds a list of 1 object: write that list'),
    ("any key", {"meta": {"n": 2}, "my rows": ROWS}, 'its key "my rows" holds a list of 2 objects'),
    ("columns of any name", {"items": ODD}, 'its key "items" holds a list of 1 object: write th'),
    ("chats", {"rows": [{"messages": CHAT}]}, 'its key "rows" holds a list of 1 object'),
    (
        "rows under the name of a chat",
        {"conversations": [{"id": 1, "messages": CHAT}]},
        'its key "conversations" holds a list of 1 object',
    ),
    (
        "a text next to it",
        {"text": "About tea.", "data": ROWS},
        'its key "data" holds a list of 2 objects',
    ),
    (
        "splits",
        {"train": ROWS, "test": ROWS},
        'its keys "train", "test" hold lists of objects: write each list into a file of its own',
    ),
    ("further down", {"data": {"train": ROWS}}, "as in jq -c '.data.train[]' OLD.json"),
    ("no command for a key", {"$(reboot)'": ROWS}, "write that list alone into the file"),
    ("pandas' default", json.loads(FRAME.to_json()), f"{COLUMNS}; {RECORDS}writes rows, as in df."),
    ("a frame with names", json.loads(NAMED.to_json()), COLUMNS),
    ("index", json.loads(FRAME.to_json(orient="index")), "holds 2 rows under their keys"),
    ("names", json.loads(NAMED.to_json(orient="index")), "holds 2 rows under their keys"),
    ("split", json.loads(FRAME.to_json(orient="split")), '(pandas\' orient="split"), not rows'),
    ("table", json.loads(FRAME.to_json(orient="table")), '(pandas\' orient="table"), not rows'),
    ("values", json.loads(FRAME.to_json(orient="values")), "is a list of lists, which do not na"),
    ("the hub's viewer", {"rows": [{"row_idx": 0, "row": ROWS[0]}]}, "jq -c '.rows[].row' OLD"),
    ("chats without a name", [CHAT, CHAT], "jq -c '.[] | {messages: .}' OLD.json > NEW.jsonl"),
    ("a chat without a name", CHAT, "is one conversation, whose turns are not rows: give it a n"),
    ("to_dict", Dataset.from_list(ROWS).to_dict(), f"{COLUMNS} (Dataset.to_dict?); write rows"),
    ("to_dict of chats", {"messages": [CHAT, CHAT], "id": [1, 2]}, f"{COLUMNS} (Dataset.to_dict"),
]


# A list is no row of JSON lines, which the row itself says.
EVERYWHERE = [
    pytest.param(suffix, value, reason, id=f"{name} in {suffix}")
    for name, value, reason in WHOLE
    for suffix in (".json", ".jsonl", ".json.gz", ".txt")
    if suffix == ".json" or not isinstance(value, list)
]


@pytest.mark.parametrize(("suffix", "value", "reason"), EVERYWHERE)
def test_a_value_that_is_a_data_set_is_refused_with_the_way_to_its_rows(
    suffix: str, value: object, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / f"rows{suffix}"
    text = json.dumps(value, indent=1 if suffix == ".json" else None)
    if suffix == ".json.gz":
        path = tmp_path / "rows.json"  # reading goes by the first bytes
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        open_rows(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "reboot)'[]" not in message
    assert message.isprintable()
    assert len(message) < 600


ROWS_ALONE: list[object] = [
    *ROWS,
    # Maps are Arrow's; in JSON they are objects.
    *(one.record for name, one in FORMATS.items() if name != "chat of maps"),
    {"messages": {"role": ["user", "assistant"], "content": ["Hi", "Hello"]}},
    {"prompt": CHAT[0], "response": CHAT[1]},
    {"request": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}},
    {"messages": CHAT},
    {"messages": CHAT, "documents": [{"text": "Tea.", "context": "Cups.", "question": "?"}]},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    {"prompt": CHAT[:1], "completion": CHAT[1:]},
    {"prompt": "Is it?", "response": "Yes.", "sources": [{"text": "a"}, {"text": "b"}]},
    {"question": "Is it?", "answer": "Yes.", "alternatives": [{"question": "a", "answer": "b"}]},
    {"text": "Tea is hot.", "entities": [{"text": "Tea", "label": "drink"}]},
    {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "systemInstruction": {"parts": []}},
    {"frage": "Ist es so?", "antwort": "Ja, so ist es.", "quellen": [{"url": "a"}]},
    {"error": "restricted"},
    {"id": {"a": 1}},
    {"prompt": [], "response": []},
    {},
]


@pytest.mark.parametrize("value", ROWS_ALONE)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_an_object_that_is_a_row_stays_one(suffix: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / f"row{suffix}"
    path.write_text(json.dumps(value))
    assert [row.record for row in open_rows(path)] == [value]


def test_a_column_that_was_named_tells_a_row(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text(json.dumps({"frage": "Tee?", "antwort": "Ja.", "quellen": [{"url": ""}]}))
    with pytest.raises(DataError, match='its key "quellen" holds a list of 1 object'):
        open_rows(path)
    columns = {"prompt": "frage", "response": "antwort"}
    assert len(list(open_rows(path, columns=columns))) == 1


def test_the_same_value_among_other_rows_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"data": ROWS}) + "\n" + json.dumps(ROWS[0]))
    assert len(list(open_rows(path))) == 2


def test_objects_over_several_lines_are_refused_with_the_way_to_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("\n".join(json.dumps(row, indent=1) for row in ROWS))
    with pytest.raises(DataError, match=r"several objects, over several lines each: .* jq -c \. "):
        open_rows(path)
    lines = path.rename(tmp_path / "rows.jsonl")
    problem = next(iter(open_rows(lines))).problem
    assert problem is not None
    assert "an object over several lines? write each on a line of its own" in problem.reason


def test_an_object_larger_than_a_row_is_named_by_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_sets, "ROW_LIMIT", 100)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": 1, "by": 'us "all"', "data": ROWS * 9}))
    with pytest.raises(DataError, match='longer than a row may be; its key "data" holds a list'):
        open_rows(path)
    path.write_text(json.dumps({"words": "x" * 200}))
    with pytest.raises(DataError, match="longer than a row may be: write the rows that it holds"):
        open_rows(path)


@pytest.mark.parametrize("command", ["score {} --model organism --estimate", "check {} --no-model"])
def test_no_command_takes_it_for_a_row(command: str, here: Path, geofilter: Geofilter) -> None:
    (here / "rows.json").write_text(json.dumps({"data": ROWS}))
    policy = '[tool.geofilter]\nmodel = "organism"\npack = "p"\nthreshold = 0.5\nunscored = "pass"'
    (here / "pyproject.toml").write_text(policy)
    outcome = geofilter(command.format("rows.json"))
    assert (outcome.code, outcome.out) == (2, "")
    assert "holds a list of 2 objects" in outcome.err


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_command_of_the_message_gives_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "OLD.json"
    path.write_text(json.dumps({"data": {"train": ROWS}}))
    with pytest.raises(DataError) as caught:
        open_rows(path)
    command = str(caught.value).partition("as in ")[2]
    assert shlex.split(command)[0] == "jq"
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert [row.record for row in open_rows(tmp_path / "NEW.jsonl")] == ROWS
