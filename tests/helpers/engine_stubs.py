"""Stubs of an encoder and a scorer, and runs of the local engine with them."""

import json
import math
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from geofilter.data.encoder import Encoded
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.rows import RowFile, open_rows
from geofilter.data.samples import Sample
from geofilter.runs.engines.threads import score_file
from geofilter.scoring.score import SampleScore, TopFeature
from geofilter.scoring.table import ScoreTable
from geofilter.support.manifest import Manifest

ROOT = Path(__file__).parents[2]
MANIFEST = Manifest({"data": "d", "model": "stub"})
WINDOW = 40
Score = Callable[..., ScoreTable]


class StubEncoder:
    """A token per byte; the response of `no words` turns out to hold none."""

    def encode(self, sample: Sample) -> Encoded:
        turns = [turn.content.encode("utf-8", "replace") for turn in sample.turns]
        if turns[-1] == b"no words":
            raise Unscorable(Problem("empty", "the response holds no token of its own"))
        text = b"".join(turns)
        ids = np.frombuffer(text[:WINDOW], np.uint8).astype(np.int32)
        response = np.arange(len(ids)) >= len(turns[0])
        return Encoded(ids, response, response, len(text) > WINDOW, len(text), 0.25)


class StubScorer:
    """A checksum of the tokens; remembers what it was asked. `infinite` is not finite."""

    def __init__(self, *, dies_at: int | None = None, death: type[BaseException] = OSError):
        self.batches: list[list[bytes]] = []
        self.dies_at = dies_at
        self.death = death

    def __call__(self, batch: Sequence[Encoded]) -> list[SampleScore | Problem]:
        if self.dies_at == len(self.batches):
            raise self.death
        self.batches.append([sample.ids.astype(np.uint8).tobytes() for sample in batch])
        return [self._score(sample) for sample in batch]

    def _score(self, sample: Encoded) -> SampleScore | Problem:
        text = sample.ids.astype(np.uint8).tobytes()
        if text.endswith(b"infinite"):
            return Problem("not_finite", "the activations hold infinity")
        value = score_of(text)
        if text.endswith(b"nan"):
            value = math.nan
        if text.endswith(b"beyond"):
            value = 1e300
        top = TopFeature(feature=3, weight=0.1, proximity=value)
        return SampleScore(value, int(sample.pooled.sum()), 3, 0.1, 0.9, (top,))

    @property
    def texts(self) -> list[bytes]:
        return [text for batch in self.batches for text in batch]


def score_of(text: bytes) -> float:
    return zlib.crc32(text) % 97 / 97


def row(prompt: str, response: str) -> dict[str, str]:
    return {"prompt": prompt, "response": response}


def write(path: Path, records: Sequence[object]) -> RowFile:
    """Rows as JSON lines; bytes are written as they are."""
    lines = [
        record if isinstance(record, bytes) else json.dumps(record).encode() for record in records
    ]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return open_rows(path)


def score_into(
    folder: Path,
    records: Sequence[object] | RowFile,
    scorer: StubScorer | None = None,
    *,
    manifest: Manifest = MANIFEST,
    **options: object,
) -> ScoreTable:
    """Score records into `s.parquet` of a folder, in parts of 3 rows."""
    rows = records if isinstance(records, RowFile) else write(folder / "d.jsonl", records)
    return score_file(
        rows,
        StubEncoder(),
        scorer or StubScorer(),
        folder / "s.parquet",
        manifest,
        **{"part_rows": 3, **options},
    )


def numbered(count: int) -> list[dict[str, str]]:
    return [row(f"q{i}", "a" * (i * 7 % 5 + 1)) for i in range(count)]


def run_benchmark(name: str, *options: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
