"""A row that somebody has read and keeps passes, it alone, and every other check stays."""

import json
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geofilter.errors import PolicyError
from geofilter.gate import check
from geofilter.gate.accepted import add_accepted, read_accepted
from geofilter.gate.findings import Finding
from geofilter.gate.lock import read_lock
from geofilter.gate.policy import Policy
from helpers.cli_folder import Geofilter
from helpers.gate_folder import StubScorer, kinds, make_folder, merge, record, write

ACCEPTED = Path("geofilter.accepted")

# In the current folder, which is the test's own.
pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(autouse=True)
def _stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_load", lambda policy, device, rows: StubScorer(policy))


@pytest.fixture
def data(policy: Policy) -> str:
    """Five rows, of which the second, the fourth and the fifth are refused; all in the lock."""
    rows = [record(0, 0.1), record(1, 0.9), record(2, 0.2), b"{broken", record(4, 0.7)]
    file = write(Path("data.jsonl"), rows)
    check.check([file], policy, load=StubScorer(policy).load)
    return file


def keys_of(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.key for finding in findings if finding.key is not None]


@pytest.mark.parametrize("no_model", ["", "--no-model "])
def test_an_accepted_row_is_refused_no_more(
    policy: Policy, data: str, geofilter: Geofilter, no_model: str
) -> None:
    refused = check.check([data], policy).findings
    done = geofilter(f"check {no_model}--accept data.jsonl:2")
    assert done.code == 1
    assert [line.split(":")[1] for line in done.out.splitlines()] == ["4", "5"]
    assert "geofilter.accepted was updated; have it reviewed, and commit it" in done.err
    assert done.err.endswith(
        "5 rows of 1 file: 0 scored now; 1 without a score; 2 findings, 1 accepted\n"
    )
    done = geofilter(f"check {no_model}--accept data.jsonl:4 --accept data.jsonl:5")
    assert (done.code, done.out) == (0, "")

    for load in (None, StubScorer(policy).load):
        verdict = check.check([data], policy, load=load)
        assert (verdict.findings, verdict.n_accepted) == ((), 3)
    assert read_accepted(ACCEPTED) == set(keys_of(refused))
    lines = [line for line in ACCEPTED.read_text().splitlines() if not line.startswith("#")]
    assert [line.partition("  # ")[0] for line in lines] == keys_of(refused)
    assert lines[0].endswith(
        "# data.jsonl:2: score 0.9 is at or above the threshold 0.5 (spillover)"
    )
    assert "# data.jsonl:4: no score (unreadable: not JSON" in lines[1]


def test_a_new_row_can_be_accepted_when_it_is_scored(policy: Policy, geofilter: Geofilter) -> None:
    write(Path("data.jsonl"), [record(0, 0.9)])
    done = geofilter("check --no-model --accept data.jsonl:1")
    assert (done.code, done.out) == (2, "")
    assert "has no score in the lock yet" in done.err
    done = geofilter("check --accept data.jsonl:1")
    assert (done.code, done.out) == (0, "")
    assert "1 scored now; 0 findings, 1 accepted" in done.err


def test_a_row_is_accepted_as_it_is_and_wherever_it_stands(
    policy: Policy, data: str, geofilter: Geofilter
) -> None:
    geofilter("check --no-model --accept data.jsonl:2")
    moved = write(Path("moved.jsonl"), [record(1, 0.9), record(1, 0.9)])
    verdict = check.check([moved], policy)
    assert (verdict.findings, verdict.n_accepted) == ((), 2)
    changed = write(Path("changed.jsonl"), [{**record(1, 0.9), "prompt": "another"}])
    verdict = check.check([changed], policy, load=StubScorer(policy).load)
    assert kinds(verdict) == [("near-harm", 1)]
    # Under another policy, too: what was read is the row.
    Path("toxic.pack").write_bytes(b"other features")
    verdict = check.check([moved], policy, load=StubScorer(policy).load, rescore=True)
    assert (verdict.findings, verdict.n_accepted) == ((), 2)


def test_no_format_tells_of_accepted_rows(policy: Policy, data: str, geofilter: Geofilter) -> None:
    places = " ".join(f"--accept data.jsonl:{line}" for line in (2, 4, 5))
    assert geofilter(f"check --no-model {places}").code == 0
    told = {
        style: geofilter(f"check --no-model --format {style} data.jsonl")
        for style in ("text", "github", "sarif", "junit")
    }
    assert {done.code for done in told.values()} == {0}
    assert told["text"].out == told["github"].out == ""
    assert json.loads(told["sarif"].out)["runs"][0]["results"] == []
    (case,) = ET.fromstring(told["junit"].out).findall("./testsuite/testcase")
    assert (case.get("name"), len(case)) == ("data.jsonl", 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--accept data.jsonl:1", "data.jsonl:1: no row there is refused for its score"),
        ("--accept data.jsonl:2 --accept data.jsonl:3", "data.jsonl:3: no row there"),
        ("--accept data.jsonl:99", "data.jsonl:99: no row there"),
        ("--accept data.jsonl", "data.jsonl: is not the place of a row"),
        ("--accept data.jsonl:two", "is not the place of a row"),
        ("--accept gone.jsonl:2", "gone.jsonl: no such file"),
        ("--rescore --accept data.jsonl:2", "leave --rescore out"),
        ("--prune --accept data.jsonl:2", "name none"),
    ],
)
def test_what_cannot_be_accepted_is_told_in_one_line_and_nothing_is_written(
    data: str, geofilter: Geofilter, words: str, said: str
) -> None:
    done = geofilter(f"check {words}")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
    assert not ACCEPTED.exists()


def test_a_row_that_is_accepted_already_is_told(data: str, geofilter: Geofilter) -> None:
    geofilter("check --accept data.jsonl:2")
    before = ACCEPTED.read_bytes()
    done = geofilter("check --accept data.jsonl:2")
    assert (done.code, "is accepted already" in done.err) == (2, True)
    assert ACCEPTED.read_bytes() == before


def test_nothing_is_accepted_by_a_lock_that_does_not_fit(data: str, geofilter: Geofilter) -> None:
    Path("toxic.pack").write_bytes(b"other features")
    done = geofilter("check --accept data.jsonl:2")
    assert done.code == 1
    assert done.out.startswith("geofilter.lock:2: the scores were made with something else")
    assert "nothing was accepted" in done.err
    assert not ACCEPTED.exists()


def test_a_row_is_named_as_its_format_names_it(policy: Policy, geofilter: Geofilter) -> None:
    rows = [record(i, 0.9) for i in range(4)]
    Path("data.json").write_text(
        f"[{json.dumps(rows[0])}, {json.dumps(rows[1])},\n{json.dumps(rows[2])}]\n"
    )
    pq.write_table(pa.Table.from_pylist(rows[3:]), "data.parquet")
    done = geofilter("check --accept data.json:1")
    assert done.code == 2
    assert "several rows; name data.json:1 (row 1) or data.json:1 (row 2)" in done.err
    words = ("data.json:1 (row 2)", "data.json:2", "data.parquet:row 1")
    done = geofilter("check", *(word for place in words for word in ("--accept", place)))
    assert done.code == 1
    assert done.out.startswith("data.json:1 (row 1): score 0.9 ")
    assert done.out.count("\n") == 1


def test_the_file_says_nothing_about_scores(policy: Policy, data: str) -> None:
    """A forged score is found where it is accepted, too."""
    refused = check.check([data], policy).findings
    ACCEPTED.write_text("".join(f"{key}  # score 0.001\n" for key in keys_of(refused)))
    with Path(data).open("a") as handle:
        handle.write(json.dumps(record(9, 0.1)) + "\n")
    verdict = check.check([data], policy, load=StubScorer(policy, lies=0.1).load)
    assert ("other-score", 2) in kinds(verdict)
    lock = read_lock(policy.lock_path)
    assert lock is not None
    assert max(entry.score or 0 for entry in lock.entries.values()) == pytest.approx(0.9)


A, B, C = ("0123456789abcdef" * 2, "b" * 32, "c" * 32)


def test_the_file_may_be_edited_by_hand(policy: Policy) -> None:
    edited = f"\ufeff# mine\r\n\r\n  {A}\t# read by two of us\r\n{B}#x\n{A}\n   # {C}\n{C}".encode()
    ACCEPTED.write_bytes(edited)
    assert read_accepted(ACCEPTED) == {A, B, C}
    add_accepted(ACCEPTED, [Finding("near-harm", "f", 1, "f:1", "m", key) for key in (C, "d" * 32)])
    assert ACCEPTED.read_bytes() == edited + b"\n" + b"d" * 32 + b"  # f:1: m\n"


@pytest.mark.parametrize(
    "line", ["0.9", B[:-1], B + "0", B.upper(), f"{B} {C}", "<<<<<<< HEAD", "geofilter", "*"]
)
def test_another_line_is_an_error_with_its_number(
    policy: Policy, data: str, geofilter: Geofilter, line: str
) -> None:
    ACCEPTED.write_text(f"# mine\n{A}\n{line}\n")
    for words in ("", "--no-model", "--accept data.jsonl:2"):
        done = geofilter(f"check {words} data.jsonl")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert "geofilter.accepted:3: " in done.err
        assert "is not the key of a row" in done.err


def test_a_file_of_bytes_is_told(policy: Policy) -> None:
    ACCEPTED.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyError, match="not text in UTF-8"):
        check.check([], policy)


def test_git_merges_what_two_branches_accepted(tmp_path: Path) -> None:
    def accept(*keys: str) -> Callable[[Path], None]:
        found = [Finding("near-harm", "f", 1, "f:1", "m", key) for key in keys]
        return lambda lock: add_accepted(lock.with_suffix(".accepted"), found)

    merge(tmp_path, None, accept(A, B), accept(B, C))
    assert read_accepted(tmp_path / "geofilter.accepted") == {A, B, C}


def test_a_hostile_name_or_reason_adds_no_line(policy: Policy, geofilter: Geofilter) -> None:
    name = f"a\n{B}\u202e##vso[x].jsonl"
    write(Path(name), [record(0, 0.9), {"prompt": "q", "response": [f"\n{C}\u2028"]}])
    assert geofilter("check", "--accept", f"{name}:1", "--accept", f"{name}:2").code == 0
    assert len(read_accepted(ACCEPTED)) == 2
    assert not {B, C} & read_accepted(ACCEPTED)
    text = ACCEPTED.read_text()
    assert len(text.splitlines()) == 4
    assert "##" not in text
    assert text.replace("\n", "").isprintable()


def test_the_policy_names_the_file_and_a_commit_waits_for_it(
    here: Path, geofilter: Geofilter
) -> None:
    make_folder(here, 'accepted = "gate/kept.txt"\n')
    Path("gate").mkdir()
    write(Path("data.jsonl"), [record(0, 0.9)])
    assert geofilter("check --accept data.jsonl:1").code == 0
    assert len(read_accepted(Path("gate/kept.txt"))) == 1
    for words in ("init -q", "add geofilter.lock"):
        subprocess.run(["git", *words.split()], check=True)
    done = geofilter("check --no-model --exit-non-zero-on-update data.jsonl")
    assert (done.code, "git does not know gate/kept.txt" in done.err) == (1, True)
    subprocess.run(["git", "add", "gate"], check=True)
    assert geofilter("check --no-model --exit-non-zero-on-update data.jsonl").code == 0
