"""`benchmarks/report_size.py` makes what `geofilter report` takes."""

import importlib
import json
from pathlib import Path


def test_the_benchmark_of_the_size_makes_tables_that_report_takes(tmp_path, monkeypatch, geofilter):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    benchmark = importlib.import_module("report_size")
    data = tmp_path / "data.jsonl"
    lengths = benchmark.write_rows(data, 600)
    for name, seed in (("nearest", 1), ("persona", 2)):
        benchmark.write_table(data, lengths, tmp_path / f"{name}.parquet", name, seed)
    asked = f"report {data} --scores {tmp_path}/nearest.parquet -o {tmp_path}/r.html"
    done = geofilter(f"{asked} --baseline {tmp_path}/persona.parquet --no-model --json")
    summary = json.loads(done.out)
    assert (summary["rows"], summary["scored"]) == (600, 598)
