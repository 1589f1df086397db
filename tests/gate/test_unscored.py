"""A row without a score is counted and named, also where the policy lets it pass."""

import json
from pathlib import Path

import pytest

from geofilter.gate import check
from helpers.cli_folder import Geofilter
from helpers.gate_folder import StubScorer, make_folder, record, write

RESTRICTED = {"error": "restricted"}
# A file of rows without a score, and where and why the first of them has none.
NOTHING_TO_SCORE: dict[str, tuple[list[object], str]] = {
    "an error in place of the rows": ([RESTRICTED] * 3, "data.jsonl:1: 3 rows, this one first"),
    "one broken line": ([record(0, 0.1), b"{broken"], "data.jsonl:2: this row has no score"),
    "prompts alone": ([{"prompt": "q"}, {"prompt": "r"}], "data.jsonl:1: 2 rows, this one first"),
    "the same row again and again": ([record(0, 0.1), *[b"{x"] * 4], "data.jsonl:2: 4 rows"),
}


# However many rows cannot be read.
ALL_MAY = "unread-limit = 1\n"


def locked_with(here: Path, rows: list[object], unscored: str) -> None:
    policy = make_folder(here, f'unscored = "{unscored}"\n{ALL_MAY}files = ["data.jsonl"]\n')
    check.check([write(Path("data.jsonl"), rows)], policy, load=StubScorer(policy).load)


@pytest.mark.parametrize("case", NOTHING_TO_SCORE)
@pytest.mark.parametrize("style", ["text", "github", "sarif", "junit"])
def test_rows_that_pass_without_a_score_are_counted_and_the_first_is_named(
    here: Path, geofilter: Geofilter, case: str, style: str
) -> None:
    rows, first = NOTHING_TO_SCORE[case]
    locked_with(here, rows, "pass")
    done = geofilter(f"check --no-model --format {style}")
    assert done.code == 0
    *_, named, counted = done.err.splitlines()
    unscored = len(rows) - (record(0, 0.1) in rows)
    assert counted.endswith(f"0 scored now; {unscored} without a score; 0 findings")
    assert named.startswith(f"geofilter: {first}")
    assert named.endswith("and may pass, for the policy has unscored = 'pass'")


@pytest.mark.parametrize("case", NOTHING_TO_SCORE)
@pytest.mark.parametrize("unscored", ["pass", "fail"])
def test_programs_get_the_same_count(
    here: Path, geofilter: Geofilter, case: str, unscored: str
) -> None:
    rows, _ = NOTHING_TO_SCORE[case]
    locked_with(here, rows, unscored)
    done = geofilter("check --no-model --json")
    found = json.loads(done.out)
    count = len(rows) - (record(0, 0.1) in rows)
    assert (found["rows"], found["unscored"]) == (len(rows), count)
    refused = [one["kind"] for one in found["findings"]]
    assert refused == ([] if unscored == "pass" else ["unscored"] * count)
    assert len(found["passed_unscored"]) == (unscored == "pass")
    assert done.code == (unscored == "fail")
    assert f"; {count} without a score; " in done.err


def test_programs_get_what_people_read(here: Path, geofilter: Geofilter) -> None:
    locked_with(here, [record(0, 0.1), record(1, 0.9)], "fail")
    assert json.loads(geofilter("check --no-model --json").out) == {
        "files": ["data.jsonl"],
        "rows": 2,
        "scored_now": 0,
        "compared": 0,
        "unscored": 0,
        "reading": {
            "data.jsonl": {
                "rows": 2,
                "layouts": {
                    "prompt-response": {
                        "rows": 2,
                        "read": ["prompt", "response"],
                        "not_read": [],
                    }
                },
                "unread": 0,
                "first_unread": None,
                "form": "",
            }
        },
        "accepted": 0,
        "judged": True,
        "lock_changed": False,
        "findings": [
            {
                "kind": "near-harm",
                "file": "data.jsonl",
                "line": 2,
                "place": "data.jsonl:2",
                "score": pytest.approx(0.9),
                "message": "score 0.9 is at or above the threshold 0.5 (spillover)",
            }
        ],
        "passed_unscored": [],
    }
    wrong = geofilter("check --no-model --json --format sarif")
    assert (wrong.code, wrong.out) == (2, "")
    assert "leave --format sarif out" in wrong.err


def test_a_log_for_servers_says_what_passed_without_a_score(
    here: Path, geofilter: Geofilter
) -> None:
    locked_with(here, [record(0, 0.1), RESTRICTED, RESTRICTED], "pass")
    (run,) = json.loads(geofilter("check --no-model --format sarif").out)["runs"]
    assert run["results"] == []
    ((note,),) = (one["toolExecutionNotifications"] for one in run["invocations"])
    assert note["level"] == "warning"
    assert "2 rows, this one first" in note["message"]["text"]
    (place,) = note["locations"]
    assert place["physicalLocation"]["region"] == {"startLine": 2}


@pytest.mark.parametrize("name", ["data.jsonl", "data.csv", "data.parquet", "data.jsonl.gz"])
@pytest.mark.parametrize("more", ["", "--no-model", "--json", "--no-model --format sarif"])
def test_a_pointer_in_place_of_the_rows_is_no_row(
    here: Path, geofilter: Geofilter, name: str, more: str
) -> None:
    make_folder(here, 'unscored = "pass"\n')
    digest = "0" * 64
    Path(name).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 12\n"
    )
    done = geofilter(f"check {more} {name}")
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert f"{name}: is a pointer of Git LFS" in done.err


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([RESTRICTED] * 3, 2),
        ([record(0, 0.1), *[RESTRICTED] * 9], 2),
        ([*(record(i, 0.1) for i in range(9)), RESTRICTED], 0),
        ([{"prompt": "q"}] * 3, 0),  # of these it is known what they hold
    ],
    ids=["all", "most", "a tenth", "prompts"],
)
def test_a_policy_that_lets_unscored_rows_pass_does_not_let_unread_files_pass(
    here: Path, geofilter: Geofilter, rows: list[object], code: int
) -> None:
    locked_with(here, rows, "pass")
    make_folder(here, 'unscored = "pass"\nfiles = ["data.jsonl"]\n')
    done = geofilter("check --no-model")
    assert done.code == code
    assert ("cannot be read, more than unread-limit 0.1 allows" in done.err) == (code == 2)


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"ask": "q", "reply": "r"}, "columns = {prompt = 'ask', response = 'reply'}"),
        ({"text": "q", "code": "r"}, "columns = {prompt = 'text', response = 'code'}"),
    ],
)
@pytest.mark.parametrize("unscored", ["pass", "fail"])
def test_what_to_do_about_a_row_is_said_in_keys_of_the_policy(
    here: Path, geofilter: Geofilter, row: object, key: str, unscored: str
) -> None:
    locked_with(here, [row], unscored)
    done = geofilter("check --no-model")
    assert key in done.err + done.out
    assert "--column" not in done.err + done.out
    advised = make_folder(here, f'files = ["data.jsonl"]\n{key}\n')
    verdict = check.check(["data.jsonl"], advised, load=StubScorer(advised).load)
    assert verdict.readings["data.jsonl"].unread == 0
