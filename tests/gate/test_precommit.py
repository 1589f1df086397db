"""The example's training repository: its page, its hook in the real pre-commit, its workflow."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from geofilter.gate.accepted import add_accepted, read_accepted
from geofilter.gate.lock import read_lock
from geofilter.gate.policy import read_policy
from helpers.cli_folder import Geofilter
from helpers.doc_blocks import Reader, blocks
from helpers.gate_folder import make_folder, record, write

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "training-repository"
PAGE = (EXAMPLE / "README.md").read_text(encoding="utf-8")
HOOKS = ROOT / ".pre-commit-hooks.yaml"
# As installed beside this Python: hooks find `geofilter` there, too.
BIN = Path(sys.executable).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("pre_commit") is None,
        reason="pre-commit is not installed: pip install pre-commit",
    ),
]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder beside the examples, and a git that knows who commits and no settings else."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "pre-commit"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Somebody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.org")
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)


def run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euc", command], capture_output=True, text=True, timeout=200, check=False
    )


def commits() -> int:
    return int(run("git rev-list --count HEAD").stdout)


class Folder(Reader):
    """A reader who stays in the folder that a page went to."""

    def _command(self, command: str, where: str) -> None:
        if command.startswith("cd "):
            os.chdir(command.split()[1])
            return
        super()._command(command, where)


def test_the_page_s_commands_do_what_the_page_says(shell: None, geofilter: Geofilter) -> None:
    """A commit with harmful rows is refused with their lines, a clean one passes."""
    reader = Folder(
        "README.md",
        geofilter,
        {},
        lambda command: "is installed here" if command.startswith("pip install") else None,
    )
    said = []
    for block in blocks(PAGE):
        reader.read(block)
        if block.language == "sh":
            said.append(reader.printed)
    _start, refused, passed, ci = said

    # All 20 rows are scored, once; the 60 before them are not, but for a look at some of them.
    assert "80 rows of 1 file: 20 scored now, 20 locked ones compared; 10 findings" in refused
    lines = [int(n) for n in re.findall(r"^data/train.jsonl:(\d+): score", refused, re.MULTILINE)]
    harmful = (EXAMPLE / "more" / "harmful.jsonl").read_text().splitlines()
    rows = (EXAMPLE / "data" / "train.jsonl").read_text().splitlines()
    assert len(lines) == 10
    assert all(len(rows) < line <= len(rows) + len(harmful) for line in lines)

    assert "geofilter check" in passed
    assert "Passed" in passed
    assert commits() == 2
    assert run("git status --porcelain data").stdout == ""
    assert len(Path("data/train.jsonl").read_text().splitlines()) == 70
    assert "70 rows of 1 file: 0 scored now; 0 findings" in ci

    # The lock of the page's last command: what is there, and nothing else.
    lock = read_lock(Path("geofilter.lock"))
    assert lock is not None
    assert (len(lock.entries), lock.edited) == (70, ())


# `geofilter`, with a scorer in the model's place that needs no second of loading.
STUBBED = """
import sys
sys.path.insert(0, {tests!r})
from helpers.gate_folder import StubScorer
from geofilter.cli.main import main
from geofilter.gate import check
check._load = lambda policy, device, rows: StubScorer(policy)
sys.exit(main(sys.argv[1:]))
"""


def test_the_first_commit_of_new_clean_rows_waits_for_the_lock(shell: None) -> None:
    Path("work/data").mkdir(parents=True)
    os.chdir("work")
    make_folder(Path())
    config = (EXAMPLE / ".pre-commit-config.yaml").read_text()
    Path("stubbed.py").write_text(STUBBED.format(tests=str(ROOT / "tests")))
    config = config.replace("entry: geofilter", f"entry: {sys.executable} stubbed.py")
    Path(".pre-commit-config.yaml").write_text(config)
    assert (
        run("git init -q && git add . && git commit -q -m one && pre-commit install").returncode
        == 0
    )

    # The lock is new and not yet git's: pre-commit alone would let this pass without it.
    write(Path("data/train.jsonl"), [record(i, 0.1) for i in range(3)])
    done = run("git add data && git commit -m two")
    assert done.returncode == 1
    assert "geofilter.lock was updated; commit it with the data" in done.stdout + done.stderr
    # Nor does a second try, at which the hook changes nothing any more.
    done = run("git commit -m two")
    assert done.returncode == 1
    assert "git does not know geofilter.lock" in done.stdout + done.stderr
    assert commits() == 1
    done = run("git add geofilter.lock && git commit -m two")
    assert done.returncode == 0, done.stdout + done.stderr

    # Now it is, and changes. The rows of the commit count, not what else is in the folder.
    write(Path("data/train.jsonl"), [record(i, 0.1) for i in range(5)])
    run("git add data")
    write(Path("data/train.jsonl"), [record(i, 0.1) for i in range(5)] + [record(9, 0.9)])
    done = run("git commit -m three")
    assert done.returncode == 1
    assert "2 scored now" in done.stdout + done.stderr
    assert "0 findings" in done.stdout + done.stderr
    run("git add geofilter.lock")
    done = run("git commit -m three")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("git commit -a -m four")
    assert done.returncode == 1
    assert "data/train.jsonl:6: score 0.9 " in done.stdout + done.stderr
    assert commits() == 3


def test_the_workflow_s_commands_run(shell: None, geofilter: Geofilter) -> None:
    workflow = yaml.safe_load((EXAMPLE / ".github/workflows/geofilter.yml").read_text())
    jobs = workflow["jobs"]
    steps = {name: [s["run"] for s in job["steps"] if "run" in s] for name, job in jobs.items()}
    (check,) = [step for step in steps["lock"] if step.startswith("geofilter")]
    shutil.copytree(EXAMPLE, "work")
    os.chdir("work")
    assert geofilter(check.removeprefix("geofilter ")).code == 0
    with Path("data/train.jsonl").open("a") as handle:
        handle.write((EXAMPLE / "more" / "clean.jsonl").read_text())
    done = geofilter(check.removeprefix("geofilter "))
    assert done.code == 1
    (line,) = done.out.splitlines()
    assert line.startswith(
        "::error file=data/train.jsonl,line=61,title=geofilter%3A not-locked::10"
    )

    # A pull request that brings a lock, and rows that it accepts, of its own: those of the base
    # take their place.
    checkout, with_model = steps["model"]
    run("cp ../examples/training-repository/data/train.jsonl data/")
    run("git init -q -b main && git add .")
    run("git commit -q -m base && git update-ref refs/remotes/origin/main HEAD")
    Path("geofilter.lock").write_text("forged")
    Path("geofilter.accepted").write_text("forged")
    done_run = run(f"GITHUB_BASE_REF=main; {checkout}")
    assert done_run.returncode == 0, done_run.stderr
    assert run("git status --porcelain").stdout == ""
    assert geofilter(with_model.removeprefix("geofilter ")).code == 0


def test_the_example_accepts_no_row_and_says_what_its_file_is(
    here: Path,
) -> None:
    """It has to be there for CI to take it from the base branch."""
    path = EXAMPLE / "geofilter.accepted"
    assert read_accepted(path) == set()
    add_accepted(here / "geofilter.accepted", [])
    assert path.read_bytes() == (here / "geofilter.accepted").read_bytes()


def test_no_fork_runs_on_a_machine_of_one_s_own() -> None:
    jobs = yaml.safe_load((EXAMPLE / ".github/workflows/geofilter.yml").read_text())["jobs"]
    own = [job for job in jobs.values() if "self-hosted" in job["runs-on"]]
    assert len(own) == 1
    for job in own:
        assert job["if"].split(" && ") == [
            "github.event_name == 'pull_request'",
            "github.event.pull_request.head.repo.full_name == github.repository",
        ]


def test_the_hooks_are_those_that_pre_commit_accepts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-manifest", str(HOOKS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    hooks = yaml.safe_load(HOOKS.read_text())
    # Without the model a hook is a local one: pre-commit would install torch for it, too.
    assert [hook["id"] for hook in hooks] == ["geofilter-check"]
    taken = re.compile(hooks[0]["files"])
    for name in ("data/a.jsonl", "b.ndjson.gz", "c.parquet", "d.jl.zst"):
        assert taken.search(name)
    for name in ("package.json", "geofilter.lock", "a.jsonl.bak", "jsonl"):
        assert not taken.search(name)


def test_the_example_s_hook_is_the_one_that_is_published() -> None:
    config = yaml.safe_load((EXAMPLE / ".pre-commit-config.yaml").read_text())
    (local,) = config["repos"]
    (hook,) = local["hooks"]
    published = yaml.safe_load(HOOKS.read_text())[0]
    for name in ("id", "entry", "require_serial"):
        assert hook[name] == published[name]


def test_the_example_s_policy_and_hook_look_at_the_same_files(
    here: Path,
) -> None:
    """What the hook lets pass for want of a look would else be seen by no CI."""
    (hook,) = yaml.safe_load((EXAMPLE / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    shutil.copy(EXAMPLE / "pyproject.toml", here)
    files = ["data/a.jsonl", "data/new/b.jsonl", "data/new/er/c.jsonl", "more/d.jsonl", "e.jsonl"]
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        write(Path(file), [])
    listed = read_policy().listed()
    assert listed == [file for file in files if re.search(hook["files"], file)]
    assert listed == files[:3]


def test_the_hook_s_commands_are_known_to_the_command_line(geofilter: Geofilter) -> None:
    for hook in yaml.safe_load(HOOKS.read_text()):
        program, *words = hook["entry"].split()
        assert program == "geofilter"
        assert geofilter(*words, "--help").code == 0
