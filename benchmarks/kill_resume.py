"""Is a table the same, however often its run was killed?

Kills a scoring process (SIGKILL) after random times, again and again, and resumes
it. Each table that is finished in the end must equal, column by column, that of a
run that nobody disturbed; then the next begins, until enough kills have hit.

    python benchmarks/kill_resume.py                    a stub model
    python benchmarks/kill_resume.py --model organism   and the whole command

writes benchmarks/results/kill_resume.json; exit code 1 when a table differs.
"""

import argparse
import json
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "kill_resume.json"
STUB = "stub"


def write_rows(path: Path, n_rows: int, seed: int) -> None:
    """Rows of all kinds: repeated, too long, without a response, unreadable."""
    choose = random.Random(seed)
    lines: list[bytes] = []
    for row in range(n_rows):
        kind = choose.random()
        words = " ".join(choose.choices(["rest", "drink", "water", "and", "sleep"], k=4))
        record = {"prompt": f"What helps against tiredness {row}?", "response": f"{words}."}
        if kind < 0.1 and lines:
            lines.append(choose.choice(lines))
            continue
        if kind < 0.15:
            record["response"] = words * 20
        elif kind < 0.2:
            record["response"] = ""
        elif kind < 0.25:
            lines.append(b'{"prompt": "cut')
            continue
        lines.append(json.dumps(record).encode())
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def score_with_stub(data: Path, out: Path) -> None:
    from geofilter.data.rows import open_rows
    from geofilter.runs.engines.threads import score_file
    from geofilter.support.manifest import Manifest
    from stub_model import StubEncoder, stub_scorer

    rows = open_rows(data)
    manifest = Manifest({"data": rows.fingerprint(), "model": STUB})
    scorer = stub_scorer(seconds_per_batch=0.005)
    score_file(
        rows, StubEncoder(), scorer, out, manifest,
        on_error="keep", part_rows=128, batch_tokens=1024,
    )  # fmt: skip


def command(model: str, data: Path, out: Path) -> list[str]:
    if model == STUB:
        return [sys.executable, __file__, "--child", str(data), str(out)]
    arguments = ["score", str(data), "--model", model, "--on-error", "keep", "-o", str(out)]
    return [sys.executable, "-m", "geofilter", *arguments]


def run_undisturbed(run: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def is_killed(run: list[str], after: float) -> bool:
    """Start the run and kill it; False when it was done before."""
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        code = process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    if code:
        raise SystemExit(f"the run failed with exit code {code}: {' '.join(run)}")
    return False


def lines_of(out: Path) -> list[object]:
    from geofilter.scoring.table import ScoreTable

    return list(ScoreTable.read(out))


def kill_until(n_kills: int, model: str, data: Path, folder: Path, seed: int) -> dict[str, object]:
    """Kill and resume `n_kills` times; compare every finished table."""
    choose = random.Random(seed)
    undisturbed, out = folder / "undisturbed.parquet", folder / "killed.parquet"
    seconds = run_undisturbed(command(model, data, undisturbed))
    expected = lines_of(undisturbed)
    run = command(model, data, out)
    kills = kills_here = 0
    kills_per_table: list[int] = []
    differing = 0
    while True:
        # Up to the length of a whole run, so that its last moments are hit too.
        if kills < n_kills and is_killed(run, choose.uniform(0, seconds)):
            kills, kills_here = kills + 1, kills_here + 1
            continue
        run_undisturbed(run)
        differing += lines_of(out) != expected
        kills_per_table.append(kills_here)
        if kills == n_kills:
            break
        out.unlink()
        kills_here = 0
    return {
        "model": model,
        "rows": len(expected),
        "kills": kills,
        "tables": len(kills_per_table),
        "kills_per_table": kills_per_table,
        "tables_that_differ": differing,
        "seconds_undisturbed": round(seconds, 2),
        "leftovers": sorted(path.name for path in folder.iterdir() if "killed" in path.name),
        "seed": seed,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default=STUB)
    parser.add_argument("--data", type=Path, help="a file to score in place of generated rows")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        score_with_stub(*options.child)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data.jsonl"
        if options.data:
            shutil.copyfile(options.data, data)
        else:
            write_rows(data, options.rows, options.seed)
        result = kill_until(options.kills, options.model, data, folder, options.seed)
    from geofilter.support.manifest import library_versions

    libraries = ["geofilter", "numpy", "pyarrow"]
    result["versions"] = {"python": platform.python_version(), **library_versions(libraries)}
    print(
        f"{result['kills']} kills, {result['tables']} tables of {result['rows']} rows, "
        f"{result['tables_that_differ']} differ"
    )
    options.result.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(options.result.read_text()) if options.result.exists() else {}
    options.result.write_text(json.dumps({**known, options.model: result}, indent=2) + "\n")
    return int(result["tables_that_differ"] != 0)


if __name__ == "__main__":
    sys.exit(main())
