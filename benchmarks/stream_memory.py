"""Does memory grow with the file? Peak memory for few and for many short rows.

Each size runs in a fresh process, through the whole of `score_file` with a stub
model: both passes, the index of identical rows, parts, ranks, the finished table.

    python benchmarks/stream_memory.py

writes benchmarks/results/stream_memory.json; exit code 1 when the ratio is above 1.3.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.3
RESULT = Path(__file__).parent / "results" / "stream_memory.json"


def write_rows(path: Path, n_rows: int) -> None:
    """Short rows; one in ten is that of nine rows before."""
    with path.open("w", encoding="utf-8") as file:
        for row in range(n_rows):
            name = row - 9 if row % 10 == 9 else row
            record = {"prompt": f"What is {name} plus one?", "response": f"It is {name + 1}."}
            file.write(json.dumps(record) + "\n")


def score_in_this_process(data: Path, out: Path) -> dict[str, float]:
    """Score `data` and return the number of rows, the seconds and the peak in MiB."""
    from geofilter.data.rows import open_rows
    from geofilter.runs.engines.threads import score_file
    from geofilter.support.manifest import Manifest
    from stub_model import StubEncoder, stub_scorer

    started = time.perf_counter()
    rows = open_rows(data)
    manifest = Manifest({"data": rows.fingerprint(), "model": "stub"})
    table = score_file(rows, StubEncoder(), stub_scorer(), out, manifest)
    seconds = time.perf_counter() - started
    # Not ru_maxrss: it remembers the size of the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return {
        "rows": len(table),
        "seconds": round(seconds, 1),
        "peak_mib": round(int(peak.split()[1]) / 1024, 1),
    }


def measure(n_rows: int, folder: Path) -> dict[str, float]:
    """The same in a fresh process, over a generated file in `folder`."""
    data = folder / f"{n_rows}.jsonl"
    write_rows(data, n_rows)
    command = [sys.executable, __file__, "--child", str(data)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    if figures["rows"] != n_rows:
        raise SystemExit(f"{figures['rows']} lines for {n_rows} rows")
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        out = options.child.with_suffix(".parquet")
        print(json.dumps(score_in_this_process(options.child, out)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        few = measure(options.few, Path(folder))
        many = measure(options.many, Path(folder))
    ratio = round(many["peak_mib"] / few["peak_mib"], 3)
    for figures in (few, many):
        print(
            f"{figures['rows']:>9,.0f} rows: {figures['peak_mib']:7.1f} MiB, "
            f"{figures['seconds']:6.1f} s"
        )
    print(f"ratio {ratio} (limit {LIMIT})")
    from geofilter.support.manifest import library_versions

    versions = {"python": platform.python_version(), **library_versions(["numpy", "pyarrow"])}
    result = {"few": few, "many": many, "ratio": ratio, "limit": LIMIT, "versions": versions}
    options.result.parent.mkdir(parents=True, exist_ok=True)
    options.result.write_text(json.dumps(result, indent=2) + "\n")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
