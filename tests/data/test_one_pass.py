"""A data set is read once to be checked, counted and hashed, and reading leaves no trace."""

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from geofilter.data.formats import json_files
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.rows import open_rows
from geofilter.data.samples import Sample
from geofilter.errors import DataError
from helpers.row_files import parquet, write_rows

ROWS = 1000


def content_of(suffix: str) -> bytes:
    lines = [
        json.dumps({"prompt": f"What is {n}?", "response": f"It is {n}."}) for n in range(ROWS)
    ]
    if suffix == "csv":
        return b"prompt,response\n" + b"".join(b"What is %d?,%d\n" % (n, n) for n in range(ROWS))
    if suffix == "parquet":
        return parquet(prompt=["What?"] * ROWS, response=["That."] * ROWS)
    text = f"[{','.join(lines)}]" if suffix == "json" else "\n".join(lines)
    return gzip.compress(text.encode()) if suffix == "jsonl.gz" else text.encode()


def test_each_line_is_parsed_once_to_be_checked_counted_and_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed, looked = [], []
    parse = json_files.parse_object

    def counted(data: bytes) -> object:
        parsed.append(data)
        return parse(data)

    monkeypatch.setattr(json_files, "parse_object", counted)
    rows = open_rows(write_rows(tmp_path / "data.jsonl", content_of("jsonl")))
    opened = len(parsed)
    assert opened <= 100  # the first rows decide on the layout
    survey = rows.survey(look=looked.append)
    assert (survey.rows, len(looked)) == (ROWS, ROWS)
    assert len(parsed) == opened + ROWS


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "json", "csv", "parquet"])
def test_a_survey_finds_what_counting_and_hashing_find(suffix: str, tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / f"data.{suffix}", content_of(suffix)))
    assert rows.survey()[:2] == (ROWS, rows.fingerprint())
    assert rows.survey(check=False)[:2] == (ROWS, rows.fingerprint())
    assert rows.check() == len(list(rows)) == ROWS


def test_a_survey_hashes_what_stands_after_the_rows(tmp_path: Path) -> None:
    for name, tail in (("data.json", b" \n\n"), ("data.jsonl", b"\n\n"), ("data.csv", b"\n")):
        suffix = name.split(".")[1]
        rows = open_rows(write_rows(tmp_path / name, content_of(suffix) + tail))
        assert rows.survey().fingerprint == rows.fingerprint()
    padded = gzip.compress(b"") + b"\0" * 10_000  # gzip allows zeros at the end
    rows = open_rows(write_rows(tmp_path / "data.jsonl.gz", content_of("jsonl.gz") + padded))
    assert rows.survey()[:2] == (ROWS, rows.fingerprint())


def test_what_a_look_finds_stops_the_survey_with_its_place(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "data.jsonl", content_of("jsonl")))

    def look(sample: Sample) -> None:
        if sample.turns[0].content == "What is 16?":
            raise Unscorable(Problem("out_of_window", "the window ends"))

    with pytest.raises(DataError, match=r"data\.jsonl:17: out_of_window: the window ends; repair"):
        rows.survey(look=look)
    assert rows.survey(check=False, look=look).rows == ROWS


def test_reading_csv_leaves_the_limit_of_the_process_alone(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = b"x" * (2 * before)
    path = write_rows(tmp_path / "data.csv", b"question,answer\na,%s\nb,c\n" % long)
    rows = iter(open_rows(path))
    assert len(str((next(rows).record or {})["answer"])) == len(long)
    assert csv.field_size_limit() == before  # in the middle of a file, too
    assert len(list(rows)) == 1
    broken = write_rows(tmp_path / "broken.csv", b'question,answer\n"a,%s\nb,c\n' % long)
    assert [row.problem is None for row in open_rows(broken)] == [False, True]
    assert csv.field_size_limit() == before


def test_reading_text_files_imports_nothing_heavy(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", content_of("jsonl"))
    code = (
        "import sys\n"
        "import geofilter.data.rows, geofilter.data.layouts, geofilter.data.formats\n"
        "import geofilter.data.problems, geofilter.data.turns\n"
        f"geofilter.data.rows.open_rows({str(path)!r}).survey()\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'pandas', 'numpy', 'faiss',\n"
        "         'huggingface_hub'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
