"""Rows and their score tables made by hand, for the tests of the report: no model is run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geofilter.data.rows import RowFile, open_rows
from geofilter.runs.provenance import describe_data
from geofilter.scoring.table import (
    FORMAT,
    FORMAT_KEY,
    MANIFEST_KEY,
    FeatureShare,
    ScoreRow,
    ScoreTable,
    new_parquet,
    ranks,
    to_arrow,
)
from geofilter.support.manifest import Manifest


def write_jsonl(path: Path, records: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def score_by_hand(
    data: Path,
    scores: Sequence[float | None],
    table: Path,
    *,
    lengths: Sequence[int] | None = None,
    features: Sequence[Sequence[int]] | None = None,
    scorer: str = "nearest",
    reason: str = "nothing there",
) -> tuple[RowFile, ScoreTable]:
    """`data` and a table that gives its rows these `scores`; None is a row without one."""
    rows = open_rows(data)
    hashes = [row.row_hash for row in rows]
    values = np.array([np.nan if score is None else score for score in scores], np.float32)
    places = ranks(values)
    lines = [
        ScoreRow(
            row,
            hashes[row],
            None if score is None else float(values[row]),
            "empty" if score is None else "scored",
            reason if score is None else None,
            0 if score is None else (lengths[row] if lengths else 5 + row % 7),
            top_features=()
            if score is None
            else tuple(
                FeatureShare(one, 1.5, 0.25) for one in (features[row] if features else [7])
            ),
            rank=int(places[row]) or None,
        )
        for row, score in enumerate(scores)
    ]
    settings = {"model": "<i>model</i>", "sae": None, "pack": None}
    manifest = Manifest(
        {"data": describe_data(rows), "scorer": {"name": scorer}, "window": {"max_length": 9}},
        {"source": str(data), "settings": settings, "started": "then"},
    )
    metadata = {FORMAT_KEY: FORMAT, MANIFEST_KEY: manifest.to_json().encode()}
    with table.open("wb") as handle, new_parquet(handle, metadata) as writer:
        writer.write_table(to_arrow(lines))
    return rows, ScoreTable.read(table)
