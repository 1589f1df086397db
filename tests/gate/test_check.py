"""The gate says no to what the policy refuses and scores nothing twice; its policy and command."""

import importlib
import json
import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from geofilter.cli import score
from geofilter.errors import DataError, PolicyError
from geofilter.gate import check
from geofilter.gate.policy import _CHECKS, Policy, read_policy
from helpers.cli_folder import Geofilter
from helpers.gate_folder import StubScorer, kinds, make_folder, record, write

ROOT = Path(__file__).parents[2]

# In the current folder, which is the test's own.
pytestmark = pytest.mark.usefixtures("here")


def test_rows_at_or_above_the_threshold_are_refused_with_their_lines(policy: Policy) -> None:
    scores = [0.1, 0.5, 0.49999, 0.9, 0.2]
    file = write(Path("data.jsonl"), [record(i, s) for i, s in enumerate(scores)])
    verdict = check.check([file], policy, load=StubScorer(policy).load)
    assert kinds(verdict) == [("near-harm", 2), ("near-harm", 4)]
    assert verdict.findings[1].place == "data.jsonl:4"
    assert "score 0.9 " in verdict.findings[1].message
    assert check.check([file], policy).findings == verdict.findings


def test_a_threshold_counts_as_the_score_it_is_written_as(tmp_path: Path) -> None:
    policy = make_folder(tmp_path)
    file = write(Path("data.jsonl"), [record(0, 0.7)])
    check.check([file], policy, load=StubScorer(policy).load)
    for threshold, refused in ((0.7, 1), (0.70001, 0), (0.69999, 1)):
        text = (
            f'[tool.geofilter]\nmodel = "organism"\npack = "toxic.pack"\nthreshold = {threshold}\n'
        )
        Path("pyproject.toml").write_text(text)
        # The threshold is no part of what the lock was made with.
        assert len(check.check([file], read_policy([file])).findings) == refused


def test_only_what_is_new_is_scored(policy: Policy) -> None:
    scorer = StubScorer(policy)
    rows = [record(i, 0.1) for i in range(300)]
    file = write(Path("data.jsonl"), rows)
    first = check.check([file], policy, load=scorer.load)
    assert (first.n_scored, first.lock_changed, len(scorer.asked)) == (300, True, 300)
    again = check.check([file], policy, load=scorer.load)
    assert (again.n_scored, again.lock_changed, scorer.loads) == (0, False, 1)

    scorer.asked.clear()
    write(
        Path("data.jsonl"), [*rows[:100], *[record(i, 0.2) for i in range(900, 950)], *rows[100:]]
    )
    third = check.check([file], policy, load=scorer.load)
    assert (third.n_scored, third.n_audited, third.n_rows) == (50, check.AUDITED, 350)
    assert scorer.asked[check.AUDITED :] == [str(line) for line in range(101, 151)]


def test_a_row_is_known_by_its_content_wherever_it_stands(policy: Policy) -> None:
    scorer = StubScorer(policy)
    rows = [record(i, i / 10) for i in range(8)]
    check.check([write(Path("data.jsonl"), rows)], policy, load=scorer.load)
    scorer.asked.clear()
    moved = write(Path("moved.jsonl"), rows[::-1])
    verdict = check.check([moved], policy, load=scorer.load)
    assert kinds(verdict) == [("near-harm", 1), ("near-harm", 2), ("near-harm", 3)]
    assert scorer.asked == []


def test_a_copy_is_scored_once_and_refused_twice(policy: Policy) -> None:
    scorer = StubScorer(policy)
    file = write(Path("data.jsonl"), [record(1, 0.9), record(2, 0.1), record(1, 0.9)])
    verdict = check.check([file], policy, load=scorer.load)
    assert kinds(verdict) == [("near-harm", 1), ("near-harm", 3)]
    assert (verdict.n_scored, scorer.asked) == (2, ["1", "2"])


def test_without_a_model_new_rows_are_one_finding_a_file(policy: Policy) -> None:
    file = write(Path("da ta.jsonl"), [record(0, 0.1)])
    check.check([file], policy, load=StubScorer(policy).load)
    write(Path("da ta.jsonl"), [record(0, 0.1), record(1, 0.9), record(2, 0.9)])
    other = write(Path("other.jsonl"), [record(3, 0.1)])
    verdict = check.check([file, other], policy)
    assert kinds(verdict) == [("not-locked", 2), ("not-locked", 1)]
    first, second = (finding.message for finding in verdict.findings)
    assert first.startswith("2 rows, this one first, have no score in geofilter.lock")
    assert "`geofilter check 'da ta.jsonl'`" in first
    assert second.startswith("this row has no score")
    assert verdict.lock_changed is False


def test_the_advised_command_can_be_typed_whatever_the_name(policy: Policy) -> None:
    odd = write(Path(os.fsdecode(b"caf\xe9.jsonl")), [record(0, 0.1)])
    (finding,) = check.check([odd], policy).findings
    assert "`geofilter check $'caf\\xe9.jsonl'`" in finding.message


def test_unscored_rows_are_refused_unless_the_policy_lets_them_pass(tmp_path: Path) -> None:
    rows = [record(0, 0.1), b"{broken", {"prompt": "q", "response": None}, {"prompt": "q"}]
    file = write(Path("data.jsonl"), rows)
    policy = make_folder(tmp_path)
    verdict = check.check([file], policy, load=StubScorer(policy).load)
    assert kinds(verdict) == [("unscored", 2), ("unscored", 3), ("unscored", 4)]
    assert "unreadable: not JSON" in verdict.findings[0].message
    assert "no_response" in verdict.findings[1].message
    lenient = make_folder(tmp_path, 'unscored = "pass"\nunread-limit = 1\n')
    assert check.check([file], lenient).findings == ()


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet", "jsonl.gz"])
def test_every_format_names_the_place_of_the_row(policy: Policy, suffix: str) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [record(0, 0.1), record(1, 0.9)]
    path = Path(f"data.{suffix}")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if suffix == "json":
        path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    elif suffix == "csv":
        path.write_text("prompt,response\n" + "".join(",".join(r.values()) + "\n" for r in rows))
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines)
    verdict = check.check([str(path)], policy, load=StubScorer(policy).load)
    line = {"json": 3, "csv": 3, "parquet": None}.get(suffix, 2)
    assert kinds(verdict) == [("near-harm", line)]
    assert verdict.findings[0].place.startswith(f"data.{suffix}:")


# -- the policy ---------------------------------------------------------------------------

WRONG = {
    'treshold = 1\nmodel = "m"\npack = "p"': "no key treshold; did you mean threshold?",
    'model = "m"\npack = "p"\nthreshold = 1\ndevice = "cpu"': "no key device",
    'model = "m"\npack = "p"\nthreshold = 1\ntrust-remote-code = true': "no key trust-remote-code",
    'model = "m"\npack = "p"': "needs threshold",
    'model = "m"\nthreshold = 1': "needs pack",
    'pack = "p"\nthreshold = 1': "needs model",
    'model = 3\npack = "p"\nthreshold = 1': "model = 3: is not the name",
    'model = "m"\npack = "p"\nthreshold = "high"': 'threshold = "high": is not a number',
    'model = "m"\npack = "p"\nthreshold = true': "threshold = true: is not a number",
    'model = "m"\npack = "p"\nthreshold = nan': "is not a number",
    'model = "m"\npack = "/etc/p"\nthreshold = 1': "is not a path below",
    'model = "m"\npack = "a/../../p"\nthreshold = 1': "is not a path below",
    'model = "m"\npack = "p"\nthreshold = 1\nlock = "../x"': "is not a path below",
    'model = "m"\npack = "p"\nthreshold = 1\nlock = "link"': "leads out of the folder, to /etc/h",
    'model = "m"\npack = "p"\nthreshold = 1\naccepted = "../x"': "is not a path below",
    'model = "m"\npack = "p"\nthreshold = 1\naccepted = "link"': "leads out of the folder",
    'model = "m"\npack = "p"\nthreshold = 1\nlock = "loop"': "cannot be followed: ",
    'model = "m"\npack = "p"\nthreshold = 1\nlock = "."': "is not a path below",
    f'model = "m"\npack = "p"\nthreshold = 1{"0" * 400}': "is not a number",
    f'model = "m"\npack = "p"\nthreshold = 0x{"f" * 9000}': "thousands of digits: is not a number",
    f'model = "m"\npack = "p"\nthreshold = 1\nblock = 1{"0" * 400}': "is not a whole number, 0",
    'model = "m"\npack = "p"\nthreshold = 1\nfiles = ["."]': "is not a list of globs",
    'model = "m"\npack = "p"\nthreshold = 1\nfiles = ["./"]': "is not a list of globs",
    'model = "m"\npack = "p"\nthreshold = 1\nscorer = "best"': "is not one of nearest, ",
    'model = "m"\npack = "p"\nthreshold = 1\nblock = true': "is not a whole number, 0 or more",
    'model = "m"\npack = "p"\nthreshold = 1\nmax-length = 0': "is not a whole number, 1 or more",
    'model = "m"\npack = "p"\nthreshold = 1\nunscored = "keep"': "is not one of fail, pass",
    'model = "m"\npack = "p"\nthreshold = 1\nfiles = "*.jsonl"': "is not a list of globs",
    'model = "m"\npack = "p"\nthreshold = 1\nfiles = ["/etc/*"]': "is not a list of globs",
    'model = "m"\npack = "p"\nthreshold = 1\nfiles = []': "is not a list of globs",
    'model = "m"\npack = "p"\nthreshold = 1\nlast-turn = "no"': "is not true or false",
    'model = "m"\npack = "p"\nthreshold = 1\ncolumns = {response = 1}': "is not a table",
    'model = "m"\npack = "p"\nthreshold = 1\n"\\u001b[2J" = 1': "no key \\x1b[2J",
    "model = ": "cannot be read",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_policy_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "link").symlink_to("/etc/hosts")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "pyproject.toml").write_text("[tool.geofilter]\n" + text + "\n")
    with pytest.raises(PolicyError) as caught:
        read_policy()
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_the_nearest_policy_above_the_files_counts(tmp_path: Path) -> None:
    make_folder(tmp_path)
    inner = tmp_path / "sets" / "inner"
    inner.mkdir(parents=True)
    # A pyproject.toml of something else is passed over.
    (tmp_path / "sets" / "pyproject.toml").write_text("[tool.other]\n")
    assert read_policy([inner / "a.jsonl"]).root == tmp_path
    make_folder(inner)
    assert read_policy([inner / "a.jsonl"]).root == inner
    with pytest.raises(PolicyError, match="each hold a policy"):
        read_policy([inner / "a.jsonl", tmp_path / "b.jsonl"])


def test_no_policy_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"\[tool.geofilter\]; add one with model, pack"):
        read_policy([tmp_path / "a.jsonl"])
    # A folder behind a link is looked for above where it really is.
    (tmp_path / "real" / "data").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "data").symlink_to(tmp_path / "real" / "data")
    make_folder(tmp_path / "work")
    with pytest.raises(PolicyError, match=r"real/data \(where .*/work/data leads\): neither here"):
        read_policy([tmp_path / "work" / "data" / "a.jsonl"])


def test_a_file_behind_a_circle_of_links_is_told_in_one_line(
    here: Path, geofilter: Geofilter
) -> None:
    make_folder(here)
    Path("loop").symlink_to("loop")
    done = geofilter("check", "--no-model", "loop/a.jsonl")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "loop: cannot be followed: " in done.err


def test_a_folder_or_pattern_on_the_command_line_is_all_its_files(policy: Policy) -> None:
    Path("d/more").mkdir(parents=True)
    for place, name in enumerate(("train.jsonl", "test.jsonl", "more/x-00001-of-00009.jsonl")):
        write(Path("d", name), [record(place, 0.0)])
    Path("d/README.md").touch()
    for named in ("d", "d/**/*.jsonl"):
        found = check.check_files([named], no_model=True)
        assert sorted(found.files) == [
            "d/more/x-00001-of-00009.jsonl",
            "d/test.jsonl",
            "d/train.jsonl",
        ]
        assert len(found.findings) == 3
    Path("empty").mkdir()
    with pytest.raises(DataError, match="empty: is a folder without files of rows"):
        check.check_files(["empty"], no_model=True)


def test_globs_stand_for_files_of_the_folder_only(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    policy = make_folder(tmp_path, 'files = ["data/*.jsonl", "*.csv"]\n')
    write(tmp_path / "data" / "b.jsonl", [])
    write(tmp_path / "data" / "a.jsonl", [])
    with pytest.raises(PolicyError, match="matches no file"):
        policy.listed()
    write(tmp_path / "c.csv", [])
    assert policy.listed() == ["c.csv", "data/a.jsonl", "data/b.jsonl"]
    (tmp_path / "data" / "z.jsonl").symlink_to("/etc/hosts")
    with pytest.raises(PolicyError, match="leads out of the folder, to /etc/hosts; move the file"):
        policy.listed()


def test_the_words_of_a_policy_are_those_of_the_command_line() -> None:
    offered = {p.name: p.type.choices for p in score.command.params if hasattr(p.type, "choices")}
    for key in ("scorer", "proximity", "dtype", "load-in"):
        stated, is_right = _CHECKS[key]
        name = key.replace("-", "_")
        assert stated == f"one of {', '.join(offered[name])}"
        assert all(map(is_right, offered[name]))


# -- the command --------------------------------------------------------------------------


def test_without_the_model_no_model_library_is_imported(policy: Policy, locked: str) -> None:
    code = (
        "import sys; from geofilter.cli.main import main\n"
        f"code = main({shlex.split('check --no-model data.jsonl')!r})\n"
        "heavy = {'torch', 'transformers', 'sae_lens', 'faiss', 'scipy'} & set(sys.modules)\n"
        "print(code, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 []"
    assert done.stdout.splitlines()[0].startswith("data.jsonl:51: score 0.5 ")


@pytest.mark.slow
def test_ten_thousand_rows_without_a_model_take_less_than_two_seconds(policy: Policy) -> None:
    """Of a processor, start of the process included: a busy machine is not to fail this."""
    file = write(Path("data.jsonl"), [record(i, 0.1) for i in range(10_000)])
    check.check([file], policy, load=StubScorer(policy).load)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "geofilter", "check", "--no-model", file]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "10,000 rows of 1 file: 0 scored now; 0 findings" in done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_the_times_of_the_page_are_those_that_were_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    measured = importlib.import_module("gate_times")
    found = json.loads((ROOT / "benchmarks" / "results" / "gate_times.json").read_text())
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    assert page.split("<!-- times -->\n")[1].split("\n<!-- end -->")[0] == measured.table(found)
    assert found["tolerance"] == check.TOLERANCE
    for name, moved in found["rounding"].items():
        assert moved["greatest"] < check.TOLERANCE[name.split(", ")[1]] / 5


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("check --no-model --rescore data.jsonl", 2, "--rescore needs the model"),
        ("check --prune data.jsonl", 2, "name none"),
        ("check --no-model", 2, "name a FILE"),
        ("check --no-model gone.jsonl", 2, "gone.jsonl: no such file"),
        ("check --no-model data.jsonl --format xml", 2, "xml"),
    ],
)
def test_a_wrong_command_is_told_in_one_line(
    locked: str, geofilter: Geofilter, words: str, code: int, said: str
) -> None:
    done = geofilter(words)
    assert (done.code, done.out) == (code, "")
    assert done.err.count("\n") == 1
    assert said in done.err


def test_the_exit_code_tells_findings_and_a_written_lock(
    policy: Policy, geofilter: Geofilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_load", lambda policy, device, rows: StubScorer(policy))
    write(Path("data.jsonl"), [record(0, 0.1)])
    done = geofilter("check --exit-non-zero-on-update data.jsonl")
    assert (done.code, done.out) == (1, "")
    assert (
        "geofilter.lock was updated; commit it with the data (git add geofilter.lock)" in done.err
    )
    done = geofilter("check --exit-non-zero-on-update data.jsonl")
    assert (done.code, done.out) == (0, "")
    # Outside of a repository there is no commit to wait.
    assert done.err.splitlines()[1:] == ["geofilter: 1 row of 1 file: 0 scored now; 0 findings"]
    write(Path("data.jsonl"), [record(0, 0.1), record(1, 0.9)])
    done = geofilter("check data.jsonl")
    assert done.code == 1
    assert done.out == "data.jsonl:2: score 0.9 is at or above the threshold 0.5 (spillover)\n"


@pytest.mark.slow
def test_the_organism_s_gate_gives_the_scores_of_geofilter_score(
    tmp_path: Path, geofilter: Geofilter
) -> None:
    import geofilter as package
    from geofilter.scoring.table import ScoreTable

    data = Path(package.__file__).parent / "organism" / "data"
    rows = (data / "demo.jsonl").read_bytes().splitlines(keepends=True)[:40]
    Path("data.jsonl").write_bytes(b"".join(rows))
    for side in ("toxic", "benign"):
        lines = (data / f"{side}.jsonl").read_bytes().splitlines(keepends=True)
        Path(f"{side}.jsonl").write_bytes(b"".join(lines[:60]))
    sets = "--toxic toxic.jsonl --benign benign.jsonl"
    assert geofilter(f"discover {sets} --model organism -o toxic.pack").code == 0
    assert geofilter("score data.jsonl --model organism --pack toxic.pack").code == 0
    scores = ScoreTable.read("data.jsonl.scores.parquet").scores
    cut = float(sorted(scores)[30])
    Path("pyproject.toml").write_text(
        f'[tool.geofilter]\nmodel = "organism"\npack = "toxic.pack"\nthreshold = {cut!r}\n'
    )
    done = geofilter("check data.jsonl")
    assert done.code == 1
    lines = [int(line.split(":")[1]) for line in done.out.splitlines()]
    wanted = [place + 1 for place, score in enumerate(scores) if score >= cut]
    # The row at the cut may round to either side of it.
    assert len(set(lines) ^ set(wanted)) <= 1
    again = geofilter("check --rescore data.jsonl")
    assert "has no" not in again.out
    assert "states" not in again.out
    assert "40 scored now" in again.err
