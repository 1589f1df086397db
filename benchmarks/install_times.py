"""How long each kind of installation takes, and how large it is, from the built wheels.

    python benchmarks/install_times.py               # builds, installs, writes results and page
    python benchmarks/install_times.py --only gate

Each kind gets an empty virtual environment, pip without its cache, and the versions of
constraints.txt; then one command has to work in it. `build` has to be installed. Which torch
comes is pip's to say: the results name it. The table of docs/install.md is written from
benchmarks/results/install_times.json.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "install_times.json"
PAGE = ROOT / "docs" / "install.md"
# name: (package, extras, a command that has to work then).
KINDS = {
    "gate": ("geofilter-gate", "", "check --no-model"),
    "gate-tables": ("geofilter-gate", "tables", "filter --help"),
    "score": ("geofilter", "", "score data/train.jsonl --model organism -o scores.parquet"),
    "everything": ("geofilter", "train,report,judge,ray", "verify --help"),
}
_PIP = ("-m", "pip", "--disable-pip-version-check", "install", "--no-cache-dir", "--quiet")
_LISTED = ("torch", "numpy", "pyarrow", "transformers")


def build(target: Path) -> None:
    """The wheels of both packages, in `target`."""
    for folder in (ROOT, ROOT / "tools" / "gate"):
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "-o", str(target), str(folder)],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def measure(kind: str, wheels: Path, folder: Path) -> dict[str, Any]:
    """Install one kind into an empty environment below `folder`, try it, and look at its size."""
    package, extras, command = KINDS[kind]
    (wheel,) = wheels.glob(package.replace("-", "_") + "-[0-9]*.whl")
    environment = folder / kind
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    python = str(programs / "python")
    before = _size(environment)
    wanted = f"{wheel}[{extras}]" if extras else str(wheel)
    start, used = time.perf_counter(), _processor_seconds()
    subprocess.run([python, *_PIP, "-c", str(ROOT / "constraints.txt"), wanted], check=True)
    seconds, used = time.perf_counter() - start, _processor_seconds() - used
    _try(str(programs / "geofilter"), command, folder / f"{kind}-work")
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True
    )
    versions = {one["name"]: one["version"] for one in json.loads(listed.stdout)}
    return {
        "package": f"{package}[{extras}]" if extras else package,
        "wheel_bytes": wheel.stat().st_size,
        "seconds": round(seconds, 1),
        "processor_seconds": round(used, 1),
        "environment_bytes": _size(environment),
        "empty_environment_bytes": before,
        "packages": len(versions),
        "versions": {name: versions[name] for name in _LISTED if name in versions},
        "works": f"geofilter {command}",
    }


def _processor_seconds() -> float:
    """Of all processes that this one has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _try(program: str, command: str, folder: Path) -> None:
    """Run the command in a copy of the example's repository, without a network."""
    shutil.copytree(ROOT / "examples" / "training-repository", folder)
    hidden = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    hidden |= {"HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    subprocess.run([program, *command.split()], cwd=folder, env=hidden, check=True)


def _size(folder: Path) -> int:
    """Bytes on the disk of all files below a folder; a file of two names counts once."""
    found = {(one.st_dev, one.st_ino): one.st_blocks * 512 for one in _files(folder)}
    return sum(found.values())


def _files(folder: Path) -> list[os.stat_result]:
    return [(Path(root) / name).lstat() for root, _, names in os.walk(folder) for name in names]


def table(results: dict[str, Any]) -> str:
    """The results as the page shows them."""
    lines = [
        "| install | wall, s | processor, s | MB on disk | packages |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in results["kinds"].values():
        torch = one["versions"].get("torch")
        name = f"`pip install '{one['package']}'`" + (f" with torch {torch}" if torch else "")
        size = f"{one['environment_bytes'] / 1e6:,.0f}"
        used = one.get("processor_seconds")
        times = f"{one['seconds']:.0f} | {'not taken' if used is None else format(used, '.0f')}"
        lines.append(f"| {name} | {times} | {size} | {one['packages']} |")
    return "\n".join(lines)


def write_page(results: dict[str, Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    part = f"<!-- install times -->\n{table(results)}\n<!-- end -->"
    text = re.sub("<!-- install times -->.*?<!-- end -->", lambda _: part, text, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=KINDS, action="append", help="measure this kind alone")
    wanted = parser.parse_args().only or list(KINDS)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"kinds": {}}
    results["python"] = platform.python_version()
    results["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    results["pip_cache"] = "not used"
    with TemporaryDirectory(prefix="geofilter-install-") as name:
        folder = Path(name)
        build(folder / "wheels")
        for kind in wanted:
            results["kinds"][kind] = measure(kind, folder / "wheels", folder)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(kind, json.dumps(results["kinds"][kind]), flush=True)
    results["kinds"] = {kind: results["kinds"][kind] for kind in KINDS if kind in results["kinds"]}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if PAGE.exists():
        write_page(results)


if __name__ == "__main__":
    main()
