"""The gate trusts no lock blindly, and loses no score of one."""

import json
import multiprocessing
import re
from pathlib import Path

import pytest

from geofilter.data.rows import Row, open_rows
from geofilter.errors import LockError, OutputError
from geofilter.gate import check
from geofilter.gate.lock import Entry, read_lock
from geofilter.gate.policy import Policy, read_policy
from helpers.gate_folder import StubScorer, as_float32, kinds, make_folder, record, write

# In the current folder, which is the test's own.
pytestmark = pytest.mark.usefixtures("here")


def entry_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()[2:]


@pytest.mark.parametrize("no_model", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        'scorer = "persona"',
        "last-turn = true",
        "max-length = 64",
        'dtype = "bfloat16"',
        'load-in = "4bit"',
    ],
)
def test_a_lock_of_another_policy_is_stale(
    tmp_path: Path, locked: str, change: str, no_model: bool
) -> None:
    before = Path("geofilter.lock").read_bytes()
    policy = make_folder(tmp_path, change + "\n")
    scorer = StubScorer(policy)
    verdict = check.check([locked], policy, load=None if no_model else scorer.load)
    assert kinds(verdict) == [("stale-lock", 2)]
    assert change.split()[0].replace("-", "_") in verdict.findings[0].message
    assert "--rescore" in verdict.findings[0].message
    assert Path("geofilter.lock").read_bytes() == before
    assert scorer.asked == []


def test_a_lock_of_another_pack_is_stale(policy: Policy, locked: str) -> None:
    Path("toxic.pack").write_bytes(b"other features")
    assert kinds(check.check([locked], policy)) == [("stale-lock", 2)]


def test_a_lock_of_another_model_is_stale_as_soon_as_the_model_is_loaded(
    policy: Policy, locked: str
) -> None:
    write(Path("data.jsonl"), [record(1000, 0.1)])
    scorer = StubScorer(policy, model="fine-tuned since")
    verdict = check.check([locked], policy, load=scorer.load)
    assert kinds(verdict) == [("stale-lock", 2)]
    assert "fine-tuned since" in verdict.findings[0].message
    assert scorer.asked == []


def test_rescore_throws_a_stale_lock_away(policy: Policy, locked: str) -> None:
    scorer = StubScorer(policy, model="fine-tuned since", lies=0.001)
    verdict = check.check([locked], policy, load=scorer.load, rescore=True)
    # Other scores are no lie where something else made them.
    assert {kind for kind, _ in kinds(verdict)} == {"near-harm"}
    assert (verdict.n_scored, verdict.lock_changed) == (80, True)
    lock = read_lock(policy.lock_path)
    assert lock is not None
    assert lock.header == scorer.header


def test_an_edited_score_is_named_by_its_line(policy: Policy, locked: str) -> None:
    lines = Path("geofilter.lock").read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if " 0.790000" in line)
    lines[place] = lines[place].replace(" 0.790000", " 0.090000")
    Path("geofilter.lock").write_text("\n".join(lines) + "\n")
    for load in (None, StubScorer(policy).load):
        verdict = check.check([locked], policy, load=load)
        assert kinds(verdict) == [("edited-lock", place + 1)]
        assert verdict.findings[0].file == "geofilter.lock"


def test_a_thousand_edited_lines_are_counted_not_listed(policy: Policy, locked: str) -> None:
    text = Path("geofilter.lock").read_text()
    Path("geofilter.lock").write_text(text.replace('"model": "m"', '"model": "n"'))
    findings = check.check([locked], policy).findings
    assert len(findings) == 10
    assert "and 70 more lines" in findings[-1].message


def forge(policy: Policy, share: float) -> None:
    """What somebody does who can run this program: give rows a low score, with right checks."""
    lock = read_lock(policy.lock_path)
    assert lock is not None
    text = policy.lock_path.read_text().splitlines()[:2]
    for place, (key, entry) in enumerate(sorted(lock.entries.items())):
        forged = Entry(as_float32(0.001), "scored") if place < share * len(lock.entries) else entry
        text.append(lock.header.line_of(key, forged))
    policy.lock_path.write_text("\n".join(text) + "\n")


def test_a_forged_lock_is_found_when_the_model_looks_at_some_of_its_rows(
    policy: Policy, locked: str
) -> None:
    forge(policy, 1.0)
    assert check.check([locked], policy).findings == ()  # which is why the model looks
    before = policy.lock_path.read_bytes()
    with Path("data.jsonl").open("a") as handle:
        handle.write(json.dumps(record(999, 0.1)) + "\n")
    scorer = StubScorer(policy)
    verdict = check.check([locked], policy, load=scorer.load)
    assert {finding.kind for finding in verdict.findings} == {"other-score"}
    assert len(verdict.findings) == check.AUDITED
    told = r"states score 0\.001, and the model gives score 0(\.\d+)?: "
    assert all(re.search(told, finding.message) for finding in verdict.findings)
    assert policy.lock_path.read_bytes() == before
    assert "81" not in scorer.asked


def test_the_rows_that_are_looked_at_are_others_every_time(policy: Policy, locked: str) -> None:
    seen = set()
    for turn in range(30):
        file = write(Path(f"new-{turn}.jsonl"), [record(2000 + turn, 0.1)])
        scorer = StubScorer(policy)
        check.check([locked, file], policy, load=scorer.load)
        seen.update(scorer.asked[: check.AUDITED])
    # 80 rows, 30 draws of 20: one is never drawn with a chance of 80 * 0.75**30 < 2 %.
    assert len(seen) >= 79


def test_rescore_finds_a_single_forged_row_and_puts_it_right(policy: Policy, locked: str) -> None:
    honest = policy.lock_path.read_bytes()
    forge(policy, 1 / 80)
    verdict = check.check([locked], policy, load=StubScorer(policy).load, rescore=True)
    others = [finding for finding in verdict.findings if finding.kind == "other-score"]
    assert len(others) == 1
    assert policy.lock_path.read_bytes() == honest


@pytest.mark.parametrize("unscored", ["pass", "fail"])
@pytest.mark.parametrize("unreadable_first", [True, False])
def test_a_row_is_not_known_by_an_unreadable_one_that_spells_its_record(
    tmp_path: Path, unscored: str, unreadable_first: bool
) -> None:
    """Such bytes have the hash of the record, and would lend the row their lack of a score."""
    policy = make_folder(tmp_path, f'unscored = "{unscored}"\nunread-limit = 1\n')
    spelled = '{"prompt":"q","response":"a, b, answer 0.9"}'
    row = write(Path("row.jsonl"), [json.loads(spelled)])
    Path("bytes.csv").write_text(f"prompt,response\n{spelled}")
    ((one,), (other,)) = (list(open_rows(file)) for file in (row, "bytes.csv"))
    assert (one.row_hash, one.problem) == (other.row_hash, None)
    assert other.problem is not None

    files = ["bytes.csv", row] if unreadable_first else [row, "bytes.csv"]
    wanted = {"near-harm", "unscored"} if unscored == "fail" else {"near-harm"}
    clean = write(Path("clean.jsonl"), [record(0, 0.1)])
    # Scored; known by the lock alone; looked at beside a new row; scored again.
    steps: list[tuple[list[str], bool, bool]] = [
        (files, True, False),
        (files, False, False),
        ([*files, clean], True, False),
        (files, True, True),
    ]
    for checked, with_model, rescore in steps:
        load = StubScorer(policy).load if with_model else None
        verdict = check.check(checked, policy, load=load, rescore=rescore)
        assert {finding.kind for finding in verdict.findings} == wanted
    lock = read_lock(policy.lock_path)
    assert lock is not None
    assert sorted(entry.score is None for entry in lock.entries.values()) == [False, False, True]


def test_rounding_is_no_forgery(policy: Policy, locked: str) -> None:
    scorer = StubScorer(policy, lies=0.0004)
    verdict = check.check([locked], policy, load=scorer.load, rescore=True)
    assert "other-score" not in {finding.kind for finding in verdict.findings}
    scorer = StubScorer(policy, lies=0.01)
    verdict = check.check([locked], policy, load=scorer.load, rescore=True)
    assert sum(finding.kind == "other-score" for finding in verdict.findings) == 80


def test_a_trusted_lock_makes_the_forged_one_worthless(policy: Policy, locked: str) -> None:
    """What docs/gate.md advises: take the lock of the branch that is merged into."""
    trusted = policy.lock_path.read_bytes()
    write(Path("data.jsonl"), [*(record(i, i / 100) for i in range(40)), record(7, 0.9)])
    check.check([locked], policy, load=StubScorer(policy).load)
    forge(policy, 1.0)
    assert check.check([locked], policy).findings == ()
    policy.lock_path.write_bytes(trusted)
    verdict = check.check([locked], policy, load=StubScorer(policy).load)
    assert kinds(verdict) == [("near-harm", 41)]


def test_a_damaged_lock_is_refused_and_can_be_made_anew(policy: Policy, locked: str) -> None:
    honest = policy.lock_path.read_bytes()
    policy.lock_path.write_bytes(b"<<<<<<< HEAD\n" + honest)
    with pytest.raises(LockError, match="merge conflict"):
        check.check([locked], policy, load=StubScorer(policy).load)
    check.check([locked], policy, load=StubScorer(policy).load, rescore=True)
    assert policy.lock_path.read_bytes() == honest


def test_rescore_does_not_destroy_a_data_set_that_the_policy_names_by_mistake(
    here: Path,
) -> None:
    policy = make_folder(here, 'lock = "data.jsonl"\n')
    file = write(Path("data.jsonl"), [record(0, 0.1)])
    before = Path(file).read_bytes()
    scorer = StubScorer(policy)
    for rescore in (False, True):
        with pytest.raises(LockError, match="correct lock in the policy"):
            check.check([file], policy, load=scorer.load, rescore=rescore)
    assert (Path(file).read_bytes(), scorer.loads) == (before, 0)


def test_prune_forgets_rows_that_are_gone(policy: Policy, locked: str) -> None:
    write(Path("data.jsonl"), [record(i, i / 100) for i in range(10)])
    check.check([locked], policy)
    assert len(entry_lines(policy.lock_path)) == 80
    verdict = check.check([locked], policy, prune=True)
    assert (verdict.lock_changed, len(entry_lines(policy.lock_path))) == (True, 10)


def test_what_is_scored_is_kept_when_the_work_is_interrupted(policy: Policy) -> None:
    file = write(Path("data.jsonl"), [record(i, 0.1) for i in range(1000)])

    class Interrupted(StubScorer):
        def score(self, rows: "list[Row]", layout: object) -> list[Entry]:  # type: ignore[override]
            if len(self.asked) > 600:
                raise KeyboardInterrupt
            return super().score(rows, layout)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        check.check([file], policy, load=Interrupted(policy).load)
    done = len(entry_lines(policy.lock_path))
    assert done >= 600
    verdict = check.check([file], policy, load=StubScorer(policy).load)
    assert verdict.n_scored == 1000 - done
    assert verdict.findings == ()


def test_a_lock_without_a_place_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    policy = make_folder(tmp_path, 'lock = "locks/geofilter.lock"\n')
    scorer = StubScorer(policy)
    file = write(Path("data.jsonl"), [record(0, 0.1)])
    with pytest.raises(OutputError, match="create the folder first"):
        check.check([file], policy, load=scorer.load)
    assert scorer.loads == 0


def _check(worker: int) -> None:
    policy = read_policy([f"data-{worker}.jsonl"])
    for turn in range(1, 6):
        rows = [record(100 * worker + i, 0.1) for i in range(10 * turn)]
        file = write(Path(f"data-{worker}.jsonl"), rows)
        verdict = check.check([file], policy, load=StubScorer(policy).load)
        assert (verdict.n_scored, verdict.findings) == (10, ())


def test_checks_at_once_keep_each_other_s_scores(policy: Policy) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_check, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    files = [f"data-{worker}.jsonl" for worker in range(4)]
    verdict = check.check(files, policy)
    assert (verdict.n_rows, verdict.findings) == (200, ())
    assert len(entry_lines(policy.lock_path)) == 200
