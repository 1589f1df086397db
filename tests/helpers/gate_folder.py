"""A folder with a policy, and a scorer without a model, for tests of the gate."""

import json
import subprocess
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import Unscorable
from geofilter.data.rows import Row, RowFile
from geofilter.gate import check
from geofilter.gate.lock import Entry, Header
from geofilter.gate.policy import Policy, read_policy

# Called with the path of the lock.
Edit = Callable[[Path], object]

POLICY = '[tool.geofilter]\nmodel = "organism"\npack = "toxic.pack"\nthreshold = 0.5\n'


def make_folder(folder: Path, more: str = "") -> Policy:
    """Write pyproject.toml and a file in the pack's place; return the policy."""
    (folder / "pyproject.toml").write_text(POLICY + more)
    (folder / "toxic.pack").write_bytes(b"toxic features")
    return read_policy([folder / "data.jsonl"])


def record(number: int, score: float) -> dict[str, object]:
    return {"prompt": f"q{number}", "response": f"answer {score}"}


def write(path: Path, records: Sequence[object]) -> str:
    """Rows as JSON lines; bytes are written as they are. Return the path as text."""
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def kinds(verdict: check.Verdict) -> list[tuple[str, int | None]]:
    return [(finding.kind, finding.line) for finding in verdict.findings]


class StubScorer:
    """Reads the score off the response, and remembers which rows it was asked about.

    `lies` moves every score.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, policy: Policy, *, model: str = "m", lies: float = 0.0) -> None:
        self.header = Header(policy.asked(), {"model": model, "dtype": "float32"}, {"torch": "1"})
        self.lies = lies
        self.asked: list[str] = []
        self.loads = 0

    def load(self, rows: RowFile) -> "StubScorer":
        self.loads += 1
        return self

    def score(self, rows: Sequence[Row], layouts: Layouts) -> list[Entry]:
        self.asked += [row.where.rpartition(":")[2] for row in rows]
        return [self._entry(row, layouts) for row in rows]

    def _entry(self, row: Row, layouts: Layouts) -> Entry:
        if row.record is None:
            assert row.problem is not None
            return Entry(None, row.problem.status, row.problem.reason)
        try:
            (sample,) = layouts.samples(row.record)
        except Unscorable as error:
            return Entry(None, error.problem.status, error.problem.reason)
        last = sample.turns[-1].content.split()[-1]
        try:
            score = float(last)
        except ValueError:
            score = zlib.crc32(last.encode("utf-8", "surrogatepass")) % 97 / 97
        return Entry(as_float32(score + self.lies), "scored")


def as_float32(value: float) -> float:
    import numpy as np

    return float(np.float32(value))


def git(folder: Path, *words: str) -> None:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def merge(folder: Path, base: Edit | None, *branches: Edit) -> Path:
    """The lock after git merged two branches, each of which edits it or a file beside it.

    `base` makes what both begin with, if anything.
    """
    path = folder / "geofilter.lock"
    git(folder, "init", "-q", "-b", "main")
    (folder / ".gitattributes").write_text("geofilter.* merge=union\n")
    if base is not None:
        base(path)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "base")
    for number, edit in enumerate(branches):
        git(folder, "checkout", "-q", "-b", f"branch-{number}", "main")
        edit(path)
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"branch {number}")
    git(folder, "merge", "-q", "branch-0")
    return path
