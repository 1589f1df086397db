"""How long does `geofilter filter` take for 100,000 rows? Seconds, start and imports included.

Short rows in JSON lines and a made-up score table: nothing is scored. On a machine that is
busy with other work the seconds are those of the others too; `cpu` are the command's own.

    python benchmarks/filter_time.py
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report_size import write_table


def write_rows(path: Path, n_rows: int) -> list[int]:
    """Rows of 20 short words; the number of words in each response."""
    words = random.Random(0)
    with path.open("w") as file:
        for _ in range(n_rows):
            prompt, response = (
                " ".join(f"w{words.randrange(999)}" for _ in range(count)) for count in (8, 12)
            )
            file.write(json.dumps({"prompt": prompt, "response": response}) + "\n")
    return [12] * n_rows


def measure(folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one command that drops a fifth."""
    command = (
        "filter data.jsonl --scores s.parquet --drop-fraction 0.2 -o kept.jsonl "
        "--dropped dropped.jsonl"
    )
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "geofilter", *command.split()],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit("the command failed")
    for name in ("kept.jsonl", "dropped.jsonl"):
        (folder / name).unlink()
    return seconds, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print the quickest and the median of some runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lengths = write_rows(folder / "data.jsonl", options.rows)
        write_table(folder / "data.jsonl", lengths, folder / "s.parquet", "nearest", 1)
        times = sorted(measure(folder) for _ in range(options.runs))
    print(f"{options.rows:,} rows on {os.cpu_count()} cores")
    for what, (seconds, cpu) in (("quickest", times[0]), ("median", times[len(times) // 2])):
        print(f"{what}: {seconds:.2f} s, {cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
