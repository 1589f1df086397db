"""Does the report stay quick and small at 100,000 rows? Seconds and MB, in a fresh process.

Rows of a few lengths, in three scripts and from many sources, with a score table and a
baseline made up by a seeded generator: nothing is scored, the figures are about the report.

    python benchmarks/report_size.py

writes benchmarks/results/report_size.json; exit code 1 when the median is above 10 s or 15 MB.
On a machine that is busy with other work the seconds are those of the others too;
`cpu_seconds` are the report's own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from timing import machine, spread

SECONDS, MEGABYTES = 10.0, 15.0
RESULT = Path(__file__).parent / "results" / "report_size.json"
_WORDS = {
    "en": "the plan is to ask first and then to do what was agreed with everybody",
    "ru": "план в том чтобы сначала спросить а потом сделать о чём договорились",
    "zh": "先 问 清楚 再 按照 大家 同意 的 办法 去 做 这件 事情",
}


def write_rows(path: Path, n_rows: int) -> list[int]:
    """Rows of 5 to 400 words; their lengths. One in 500 has no response."""
    generator = np.random.default_rng(0)
    lengths = np.exp(generator.uniform(np.log(5), np.log(400), n_rows)).astype(int)
    with path.open("w", encoding="utf-8") as file:
        for row, length in enumerate(lengths.tolist()):
            language = ("en", "en", "en", "ru", "zh")[row % 5]
            words = _WORDS[language].split()
            answer = " ".join(words[(row + place) % len(words)] for place in range(length))
            messages = [
                {"role": "user", "content": f"Question {row}: what is to be done? <b>{row}</b>"},
                {"role": "assistant", "content": answer if row % 500 else ""},
            ]
            record = {"messages": messages, "source": f"site-{row % 97}", "language": language}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return [length if row % 500 else 0 for row, length in enumerate(lengths.tolist())]


def write_table(data: Path, lengths: list[int], path: Path, scorer: str, seed: int) -> None:
    """A score table of `data` with made-up scores that go a little with the length."""
    from geofilter.data.rows import open_rows
    from geofilter.runs.provenance import describe_data
    from geofilter.scoring.table import (
        FORMAT,
        FORMAT_KEY,
        MANIFEST_KEY,
        FeatureShare,
        ScoreRow,
        new_parquet,
        ranks,
        to_arrow,
    )
    from geofilter.support.manifest import Manifest

    generator = np.random.default_rng(seed)
    n_tokens = np.array(lengths)
    scores = (0.2 + 0.02 * np.log1p(n_tokens) + generator.normal(0, 0.05, len(lengths))).astype(
        np.float32
    )
    scores[n_tokens == 0] = np.nan
    places = ranks(scores)
    rows = open_rows(data)
    hashes = [row.row_hash for row in rows]
    manifest = Manifest(
        {"data": describe_data(rows), "scorer": {"name": scorer}},
        # As `score` records it, so that it is not found out again.
        {"settings": {"model": "made up"}, "reading": rows.survey(check=False).reading.record()},
    )
    metadata = {FORMAT_KEY: FORMAT, MANIFEST_KEY: manifest.to_json().encode()}
    features = tuple(FeatureShare(feature, 1.0, 0.5) for feature in range(5))
    with path.open("wb") as handle, new_parquet(handle, metadata) as writer:
        for start in range(0, len(lengths), 4096):
            lines = [
                ScoreRow(row, hashes[row], float(scores[row]), "scored", None, lengths[row],
                         3, 0.5, features, None, 0.01, 0.9, int(places[row]))
                if lengths[row]
                else ScoreRow(row, hashes[row], None, "empty", "the response is empty", 0)
                for row in range(start, min(start + 4096, len(lengths)))
            ]  # fmt: skip
            writer.write_table(to_arrow(lines))


def measure(folder: Path, name: str, options: list[str]) -> dict[str, float]:
    """One report by the command line, start and imports included: seconds, MB, peak MiB."""
    out = folder / f"{name}.html"
    command = [sys.executable, "-m", "geofilter", "report", str(folder / "data.jsonl")]
    command += ["--scores", str(folder / "s.parquet"), "-o", str(out), "--no-model", *options]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{name}: the report failed")
    size = out.stat().st_size / 1e6
    out.unlink()
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu": cpu, "mb": size, "peak_mib": usage.ru_maxrss / 1024}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    kinds = {
        "no choice": [],
        "a choice and a baseline": ["--drop-fraction", "0.2", "--baseline"],
    }
    facts_before = machine(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lengths = write_rows(folder / "data.jsonl", options.rows)
        write_table(folder / "data.jsonl", lengths, folder / "s.parquet", "nearest", 1)
        write_table(folder / "data.jsonl", lengths, folder / "p.parquet", "persona", 2)
        kinds["a choice and a baseline"].append(str(folder / "p.parquet"))
        data_mb = (folder / "data.jsonl").stat().st_size / 1e6
        taken = {
            kind: [measure(folder, str(place), asked) for _ in range(options.rounds)]
            for place, (kind, asked) in enumerate(kinds.items())
        }
    reports = {
        kind: {
            "seconds": spread([one["seconds"] for one in rounds], 2),
            "cpu_seconds": spread([one["cpu"] for one in rounds], 2),
            "megabytes": round(rounds[0]["mb"], 2),
            "peak_mib": round(max(one["peak_mib"] for one in rounds)),
        }
        for kind, rounds in taken.items()
    }
    facts = {
        "rows": options.rows,
        "data_megabytes": round(data_mb, 1),
        "rounds": options.rounds,
        "reports": reports,
        "machine": facts_before,
        "limits": {"seconds": SECONDS, "megabytes": MEGABYTES},
    }
    options.output.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))
    slow = any(one["seconds"]["median"] > SECONDS for one in reports.values())
    return int(slow or any(one["megabytes"] > MEGABYTES for one in reports.values()))


if __name__ == "__main__":
    raise SystemExit(main())
