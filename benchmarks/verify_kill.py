"""Kill `geofilter verify` at random moments, again and again: is its report the same?

    python benchmarks/verify_kill.py

A small experiment on the organism is run once undisturbed; then it is begun again in
another folder and killed (SIGKILL) after a random time, ten times, before it may finish.
Answers, judgements and reports of both are compared to the byte.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "verify_kill.json"
KEPT = ("answers.jsonl", "judgements.jsonl", "report.json", "report.md", "capability.json")
OPTIONS = [
    *("--model", "organism", "--device", "cpu", "--seeds", "2", "--steps", "12"),
    *("--arms", "aligned,unfiltered,random,nearest,loss", "--samples-per-question", "2"),
]


def command(data: Path, folder: Path) -> list[str]:
    """The command that is killed, and that finishes in the end."""
    return [sys.executable, "-m", "geofilter", "verify", str(data), *OPTIONS, "-o", str(folder)]


def hashes(folder: Path) -> dict[str, str]:
    """What the folder holds, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.name in KEPT
    }


def main() -> int:
    """Run, kill, compare, and write what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    from geofilter import organism

    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "rows.jsonl"
        lines = (organism.FOLDER / "data" / "demo.jsonl").read_bytes().splitlines(keepends=True)
        data.write_bytes(b"".join(lines[:300]))
        whole, killed = Path(name) / "whole", Path(name) / "killed"
        started = time.monotonic()
        first = subprocess.run(command(data, whole), capture_output=True, check=False)
        length = time.monotonic() - started
        moments, reached = [], []
        while len(moments) < options.kills:
            # What is done is not done again, so that each try begins where the last was killed.
            process = subprocess.Popen(
                command(data, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            moment = rng.uniform(0.3, 0.22 * length)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            else:
                break  # it finished: nothing is left to kill
            moments.append(round(moment, 2))
            reached.append(len(list(killed.rglob("result.json"))))
        last = subprocess.run(command(data, killed), capture_output=True, check=False)
        result = {
            "command": "python benchmarks/verify_kill.py",
            "versions": {n: version(n) for n in ("geofilter", "torch", "trl")},
            "seed": options.seed,
            "undisturbed_s": round(length, 1),
            "kills": len(moments),
            "killed_after_s": moments,
            "runs_done_at_each_kill": reached,
            "exit_codes": [first.returncode, last.returncode],
            "files": len(hashes(whole)),
            "same": hashes(whole) == hashes(killed),
        }
    print(json.dumps(result, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["same"] else 1


if __name__ == "__main__":
    sys.exit(main())
