"""What scoring with SmolLM2 on a CPU costs, and which of its tensors are unpacked.

    python benchmarks/smollm2_score.py

runs `geofilter score` in fresh processes, without a hub, on the rows of the demo's first act and on
the same rows eight times over: tokens per second are those of the rows that the larger file has
more. Which tensors of the GGUF file are unpacked is noted as they are read. Writes
benchmarks/results/smollm2_score.json; exit code 1 when a tensor of a block above L was
unpacked.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from geofilter.demo.real_text import DATA
from timing import machine

RESULT = Path(__file__).parent / "results" / "smollm2_score.json"
MODEL = "smollm2-135m"
COPIES = 8


def score_in_this_process(data: Path, output: Path) -> dict[str, Any]:
    """Type the command in this process; what it took, and what it unpacked."""
    from geofilter.cli import main as cli
    from geofilter.model.gguf_file import GgufFile

    unpacked: list[str] = []
    tensor = GgufFile.tensor

    def noted(file: GgufFile, name: str, dtype: torch.dtype) -> torch.Tensor:
        unpacked.append(name)
        return tensor(file, name, dtype)

    GgufFile.tensor = noted  # type: ignore[method-assign]
    started = time.perf_counter()
    if cli.main(["score", str(data), "--model", MODEL, "-o", str(output)]):
        raise SystemExit("geofilter score failed")
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return {
        "seconds": round(seconds, 2),
        "peak_mib": round(int(peak.split()[1]) / 1024),
        "unpacked": unpacked,
    }


def tokens_of(data: Path) -> int:
    """Tokens of all rows as the model reads them, template included."""
    from geofilter.data.encoder import Encoder
    from geofilter.data.rows import open_rows
    from geofilter.model.loading import load

    encoder = Encoder(load(MODEL, device="cpu").tokenizer, max_length=2048)
    rows = open_rows(data)
    tally = rows.tally()
    samples = (tally.samples(row.record, row.where, row.problem) for row in rows)
    return sum(len(encoder.encode(one).ids) for found in samples for one in found)


def write_copies(path: Path, copies: int) -> None:
    """The demo's rows, each copy with other words in front: equal rows are scored once."""
    lines = DATA.read_text(encoding="utf-8").splitlines()
    with path.open("w", encoding="utf-8") as file:
        for copy in range(copies):
            for line in lines:
                row = json.loads(line)
                first = row["messages"][0]
                first["content"] = f"({copy}) {first['content']}"
                file.write(json.dumps(row) + "\n")


def fresh(data: Path, output: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(data), str(output)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(score_in_this_process(*options.one)))
        return 0
    from geofilter.model.catalogue import CATALOGUE

    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for copies in (1, COPIES):
            data = Path(folder) / f"{copies}.jsonl"
            write_copies(data, copies)
            tokens = tokens_of(data)
            runs[copies] = {"tokens": tokens, **fresh(data, Path(folder) / f"{copies}.parquet")}
            print(f"{copies} x: {tokens:,} tokens, {runs[copies]['seconds']} s", flush=True)
    few, many = runs[1], runs[COPIES]
    unpacked = many.pop("unpacked")
    few.pop("unpacked")
    block = CATALOGUE[MODEL].default_block
    above = [n for n in unpacked if (m := re.match(r"blk\.(\d+)\.", n)) and int(m[1]) > block]
    more = many["seconds"] - few["seconds"]
    results = {
        "command": "python benchmarks/smollm2_score.py",
        "machine": machine(torch.device("cpu")),
        "runs": {f"rows {copies} times": run for copies, run in runs.items()},
        "tokens_per_second": round((many["tokens"] - few["tokens"]) / more),
        "block": block,
        "unpacked_tensors": len(unpacked),
        "unpacked_blocks": sorted({int(n.split(".")[1]) for n in unpacked if n.startswith("blk.")}),
        "unpacked_others": sorted(n for n in unpacked if not n.startswith("blk.")),
        "unpacked_above_the_block": above,
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
