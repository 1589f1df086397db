"""Makes the sample report of the pages, and the pictures of it and of the gate.

    PYTHONPATH=.:tests python benchmarks/doc_pictures.py

It needs Chromium. The report is of the files of `geofilter example`; the gate's picture shows what
`geofilter check` says in examples/training-repository once someone has added ten harmful rows.
"""

import base64
import html
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.chromium import Page, chromium

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs" / "assets"
_TERMINAL = """<meta charset="utf-8"><body style="margin:0;background:#1e2127"><pre style="margin:0;
padding:18px 22px;color:#e6e6e3;font:15px/1.5 monospace;white-space:pre-wrap">{}</pre>"""


def run(folder: Path, *words: str, code: int = 0) -> str:
    """What `geofilter WORDS` prints in `folder`, led by the command itself."""
    done = subprocess.run(
        [sys.executable, "-m", "geofilter", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return f"$ geofilter {' '.join(words)}\n{done.stdout}"


def sample_report(folder: Path) -> Path:
    """The report of the example's rows, as the pages make it."""
    run(folder, "example", ".")
    run(folder, "score", "train.jsonl", "--model", "organism")
    table, out = "train.jsonl.scores.parquet", "sample-report.html"
    choice = ("--drop-fraction", "0.2", "-o", out)
    run(folder, "report", "train.jsonl", "--scores", table, *choice)
    return folder / out


def refused(folder: Path) -> str:
    """What the gate says of ten harmful rows, in a copy of the example's repository."""
    copy = folder / "repository"
    shutil.copytree(ROOT / "examples" / "training-repository", copy)
    rows = copy / "data" / "train.jsonl"
    rows.write_bytes(rows.read_bytes() + (copy / "more" / "harmful.jsonl").read_bytes())
    return "$ cat more/harmful.jsonl >> data/train.jsonl\n" + run(copy, "check", code=1)


def shoot(page: Page, source: Path, out: Path, width: int, height: int) -> None:
    """A PNG of the top of a page, in its light colours."""
    page.open(source, width=width, height=height)
    shot = page.send("Page.captureScreenshot")
    out.write_bytes(base64.b64decode(shot["data"]))


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        report = sample_report(folder)
        terminal = folder / "terminal.html"
        terminal.write_text(_TERMINAL.format(html.escape(refused(folder))), encoding="utf-8")
        with chromium(folder) as page:
            shoot(page, report, ASSETS / "report.png", 1000, 1180)
            shoot(page, terminal, ASSETS / "gate.png", 860, 372)
        shutil.copyfile(report, ASSETS / report.name)


if __name__ == "__main__":
    main()
