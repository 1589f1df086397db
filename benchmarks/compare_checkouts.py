"""Do two checkouts give the same results? For a change that moves code and nothing else.

    python benchmarks/compare_checkouts.py BEFORE AFTER --keep outputs

Runs the same commands with the code of both, each in a process of its own, and compares exit
codes, `--json` summaries and every file that was written. Only the command line is used, so
that modules may move and change their names. On the organism, without a network or a GPU:

- score tables of ten real files and the organism's demo set: every column to the last bit
- packs: header and every array; kept and dropped rows, weights, masks, reviews: every byte
- the gate's lock; the figures of the report, in its drawings and tables; options of `--help`

Versions, times and wording are not compared, nor are pictures and saved features (what is
scored from them is). Both run at the same place, one after the other, because paths go into
packs and tables. `--keep` holds what both wrote, so that BEFORE is run once; it stops where
that is of other code, commands or versions. Exit code 1 when anything differs, and where a
command crashed in either.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compare_commands import make_inputs, steps
from compare_outputs import differences

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LIBRARIES = ("torch", "transformers", "tokenizers", "sae-lens", "faiss-cpu", "numpy", "pyarrow")
# Marks a folder that this program made.
ASKED = "asked.json"


# -- one side -----------------------------------------------------------------------


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {".git", "__pycache__"} & set(path.relative_to(folder).parts)
    }


def run_side(checkout: Path, place: Path, asked: dict[str, Any], data: Path) -> dict[str, Any]:
    """Run every step with the code of `checkout` below `place`; the record of it."""
    code, folder = place / "code", place / "folder"
    place.mkdir()
    (place / ASKED).write_text(json.dumps(asked) + "\n")
    package = code / "geofilter"
    shutil.copytree(checkout / "geofilter", package, ignore=shutil.ignore_patterns("__pycache__"))
    make_inputs(package / "organism" / "data", data, folder, asked["rows"])
    threads = {f"{name}_NUM_THREADS": str(asked["threads"]) for name in ("OMP", "MKL")}
    offline = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "100"}
    kept = {"XDG_CACHE_HOME": str(place / "cache"), "PYTHONPATH": str(code)}
    env = {**os.environ, **threads, **offline, **kept}
    show = [sys.executable, "-c", "import geofilter; print(geofilter.__file__)"]
    loaded = subprocess.run(show, cwd=folder, env=env, capture_output=True, text=True, check=True)
    if not Path(loaded.stdout.strip()).is_relative_to(code):
        raise SystemExit(f"the code of {checkout} is not what runs, but {loaded.stdout.strip()}")
    known = hashes(folder)
    record: dict[str, Any] = {"asked": asked, "inputs": known, "commit": commit(checkout)}
    done = record["steps"] = []
    for number, (_, command, inside) in enumerate(asked["steps"]):
        print(f"\r{number + 1} of {len(asked['steps'])} ", end="", file=sys.stderr, flush=True)
        words = [sys.executable, "-m", "geofilter", *shlex.split(command)]
        started, used = time.perf_counter(), cpu()
        ended = subprocess.run(
            words, cwd=folder / inside, env=env, capture_output=True, text=True, check=False
        )
        seconds = {"wall": round(time.perf_counter() - started, 2), "cpu": round(cpu() - used, 2)}
        now = hashes(folder)
        written = [name for name, value in now.items() if known.get(name) != value]
        for name in written:
            target = place / "outputs" / str(number) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target)
        gone, known = sorted(known.keys() - now.keys()), now
        done.append({"code": ended.returncode, "seconds": seconds, "written": written})
        done[-1] |= {"gone": gone, "stdout": ended.stdout, "stderr": ended.stderr}
    (place / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def cpu() -> float:
    """Processor seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clear(place: Path) -> None:
    """Remove what an earlier run left at `place`, and nothing else."""
    if place.exists():
        if not (place / ASKED).exists():
            raise SystemExit(f"{place} was not made by this program; name another folder to keep")
        shutil.rmtree(place)


def commit(checkout: Path) -> str:
    """The commit of a checkout, with `-dirty` where it was changed since."""
    words = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


# -- both ---------------------------------------------------------------------------


def both(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Run both sides, BEFORE only where it is not kept, and compare them."""
    place, before = root / "run", root / "before"
    libraries = {name: version(name) for name in LIBRARIES}
    asked = {
        "steps": [list(step) for step in steps(options.every_scorer)],
        "rows": options.rows,
        "threads": options.threads,
        "versions": {"python": platform.python_version(), **libraries},
        "place": str(place),
    }
    records = {}
    for side in ("before", "after"):
        checkout = getattr(options, side).resolve()
        code = hashes(checkout / "geofilter")
        mine = {**asked, "code": hashlib.sha256(json.dumps(code).encode()).hexdigest()}
        if side == "before" and (before / "record.json").exists():
            records[side] = json.loads((before / "record.json").read_text())
            if records[side]["asked"] != mine:
                other = [key for key, value in mine.items() if records[side]["asked"][key] != value]
                raise SystemExit(f"{before} is of other {', '.join(other)}; move it away")
            continue
        clear(place)
        clear(root / side)
        records[side] = run_side(checkout, place, mine, options.data.resolve())
        place.rename(root / side)
    found = differences(records["before"], records["after"], root)
    return {
        "command": "python benchmarks/compare_checkouts.py BEFORE AFTER",
        **{key: asked[key] for key in ("rows", "threads", "versions")},
        "commits": {side: record["commit"] for side, record in records.items()},
        "seconds": {
            side: {
                clock: round(sum(step["seconds"][clock] for step in record["steps"]))
                for clock in ("wall", "cpu")
            }
            for side, record in records.items()
        },
        "differ": sum(one["difference"] is not None for one in found),
        "compared": found,
    }


def main() -> int:
    """Compare, print a line for each command, and write what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="default: shared/data next to it")
    parser.add_argument("--rows", type=int, default=60, help="of each file; default: 60")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every-scorer", action="store_true", help="on each file, not on some")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="what both wrote")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the result, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = (options.keep or Path(name)).resolve()
        root.mkdir(parents=True, exist_ok=True)
        result = both(options, root)
    print()
    for one in result["compared"]:
        print(f"{one['what']:<10} {one['result']:<22} {one['command']}")
        if one["difference"]:
            print(f"{'':<10} ! {one['difference']}")
    for side, took in result["seconds"].items():
        print(f"{side}: {took['wall']:,} s, {took['cpu']:,} s of a processor")
    print(f"{len(result['compared'])} compared, {result['differ']} differ")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return int(result["differ"] > 0)


if __name__ == "__main__":
    sys.exit(main())
