"""The report as a place to decide: what the page's script computes, against what Python does."""

import csv
import dataclasses
import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest

from geofilter.report import contents, numbers, svg
from geofilter.report.decide import page_data
from geofilter.report.html import percent
from geofilter.report.page import SCRIPT
from geofilter.selection.actions.review import FIELDS, guarded
from geofilter.selection.choose import drop_fraction
from helpers.report_payloads import PAYLOADS
from helpers.report_tables import score_by_hand, write_jsonl

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node is installed")

FIGURES = Path(contents.__file__).parent / "script" / "figures.js"
# Texts that a spreadsheet would compute, or that CSV has to quote.
CELLS = ("=1+1", "  +cmd|x", "＝SUM(A1)", "-2", "@x", 'a "b", c', "two\nlines\tand", "'", "", ",")


def evaluate(expression: str, value: object) -> object:
    """What `expression` of the script's `Report` and a `value` comes to."""
    program = (
        f"const Report = require({json.dumps(str(FIGURES))});"
        "const value = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"process.stdout.write(JSON.stringify({expression}));"
    )
    assert NODE is not None
    done = subprocess.run(
        [NODE, "-e", program], input=json.dumps(value).encode(), capture_output=True, check=True
    )
    return json.loads(done.stdout)


def gathered(folder: Path, texts, **asked) -> contents.Contents:
    records = [{"prompt": text, "response": f"{text}x{n}"} for n, text in enumerate(texts)]
    scores = [None if n % 7 == 3 else (n * 37 % 101) / 101 for n in range(len(texts))]
    data = write_jsonl(folder / "data.jsonl", records)
    rows, table = score_by_hand(data, scores, folder / "s.parquet")
    return contents.gather(rows, table, **asked)


@needs_node
def test_filter_drops_exactly_the_rows_that_the_page_says_drop_of(here, geofilter):
    texts = [*CELLS, *PAYLOADS]
    data = page_data(gathered(here, texts))
    words = {n: ("drop", "keep", "unsure", None)[n * n % 4 if n % 3 else 3] for n in range(40)}
    words |= dict.fromkeys(range(5, 40, 6), "drop")
    decided = [[row, word] for row, word in words.items() if word]
    saved = evaluate("Report.csv(value[0], new Map(value[1]))", [data, decided])
    Path("review.csv").write_text(str(saved), encoding="utf-8", newline="")
    done = geofilter("filter data.jsonl --drop-rows review.csv -o kept.jsonl")
    assert done.code == 0
    before = Path("data.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for row, line in enumerate(before) if words.get(row) != "drop"]
    assert len(before) - len(kept) > 5
    assert Path("kept.jsonl").read_bytes() == b"".join(kept)


@needs_node
def test_the_saved_list_is_spelled_as_the_one_for_review(here):
    # A lone surrogate makes a row no conversation.
    texts = [*CELLS, *(text for text in PAYLOADS if text.isascii())]
    found = gathered(here, texts)
    decided = [[row, "keep"] for row in range(len(texts))]
    saved = str(evaluate("Report.csv(value[0], new Map(value[1]))", [page_data(found), decided]))
    lines = list(csv.reader(saved.split("\n")[:-1]))
    assert lines[0] == list(FIELDS)
    for row, line in enumerate(lines[1:]):
        cells = dict(zip(FIELDS, line, strict=True))
        known = found.lines[row]
        assert (cells["row"], cells["row_hash"]) == (str(row), known.row_hash)
        assert (cells["prompt"], cells["response"]) == (
            guarded(texts[row]),
            guarded(f"{texts[row]}x{row}"),
        )
        assert cells["reason"] == (known.reason or "")
        assert float(cells["score"] or "nan") == pytest.approx(
            math.nan if known.score is None else known.score, nan_ok=True, abs=1e-6
        )


@needs_node
def test_figures_are_written_as_the_rest_of_the_page_writes_them():
    shares = [0, 0.0004, 0.01234, 0.055, 0.1234, 0.5, 0.876, 0.95, 0.9996, 1]
    values = [0, 0.25, -0.12345, 12.3456, 999, 123456.7, -1500]
    tops = [0.05, 0.3, 0.35, 0.75, 1.0]
    pairs = [(0, 5), (3, 7), (50, 50), (123, 4567)]
    shown = evaluate(
        "[value[0].map(Report.percent), value[1].map((v) => Report.number(v)),"
        " value[2].map((top) => Report.ticks(top, 3)),"
        " value[3].map(([some, all]) => Report.wilson(some, all))]",
        [shares, values, tops, pairs],
    )
    assert shown[0] == list(map(percent, shares))
    assert shown[1] == list(map(svg.number, values))
    assert shown[2] == [pytest.approx(svg.ticks(0, top, 3)) for top in tops]
    for (low, high), (some, every) in zip(shown[3], pairs, strict=True):
        rate = numbers.rate(some, every)
        assert (low, high) == pytest.approx((rate.low, rate.high), abs=1e-9)


@needs_node
def test_a_search_finds_rows_with_all_its_words_in_the_order_that_is_asked(here):
    texts = ["Red apple", "red pear", "green APPLE", "plum", "apple red", "apple", "RED", "x red"]
    data = page_data(gathered(here, texts))
    asked = (
        "value.listed.filter((row) => Report.wanted(row, ['red'], [(r) => r.score !== null]))"
        ".sort(Report.ORDERS[{}]).map((row) => row.row)"
    )
    scores = {n: (n * 37 % 101) / 101 for n in (0, 1, 4, 6, 7)}
    nearest = sorted(scores, key=lambda n: -scores[n])
    assert evaluate(asked.format("'nearest to harm first'"), data) == nearest
    assert evaluate(asked.format("'farthest from harm first'"), data) == nearest[::-1]
    assert evaluate(asked.format("'as in the data'"), data) == sorted(scores)
    both = "value.listed.filter((row) => Report.wanted(row, ['red', 'app'], [])).map((r) => r.row)"
    assert sorted(evaluate(both, data)) == [0, 4]


def test_the_page_counts_all_rows_and_holds_the_nearest(here, monkeypatch):
    monkeypatch.setattr(contents, "_MOST_LISTED", 20)
    monkeypatch.setattr(contents, "_MOST_SHOWN", 2)
    found = gathered(here, ["word"] * 300)
    data = page_data(found)
    listed = [row["row"] for row in data["listed"]]
    assert set(range(1, 21)) <= {row["rank"] for row in data["listed"]}
    assert 20 < len(listed) < 30
    assert (data["rows"], data["scored"], data["above"][0]) == (300, 257, 257)
    assert len(set(listed)) == len(listed)
    by_group = list(data["groups"].values())  # of the lengths alone: the rows have one script
    assert sum(group["scored"] for group in by_group) == 257
    assert [sum(counts) for counts in zip(*(g["above"] for g in by_group), strict=True)] == (
        data["above"]
    )


def test_the_page_begins_with_the_choice_that_it_was_written_with(here):
    found = gathered(here, ["word"] * 60)
    chosen = drop_fraction(found.table.scores, 0.2)
    found = dataclasses.replace(found, choice=numbers.choice_of(chosen, found.columns))
    data = page_data(found)
    at = data["thresholds"].index(data["start"]["threshold"])
    assert data["above"][at] == data["start"]["dropped"] == len(chosen.drop)
    assert {row["row"] for row in data["listed"] if row["goes"]} == set(chosen.drop.tolist())


def test_rows_whose_texts_have_no_room_are_left_out(here, monkeypatch):
    monkeypatch.setattr("geofilter.report.decide._MOST_CHARACTERS", 1000)
    data = page_data(gathered(here, ["w" * 100] * 30))
    assert [row["rank"] for row in data["listed"]] == [1, 2, 3, 4]


def test_the_script_turns_no_text_into_markup_or_code():
    for sink in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval", "Function("):
        assert sink not in SCRIPT
