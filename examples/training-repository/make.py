"""Makes this folder's rows, pack and lock, and measures what the policy's threshold does.

    python make.py            # needs geofilter, and no network

The rows are the bundled organism's: plain advice in its tiny world, half a page of text to a
person and the whole language to the model. Nothing is picked: `more/harmful.jsonl` holds the
first ten harmful rows that are drawn, whatever their scores. The threshold is the score that
one in a hundred of 1,000 harmless rows reaches; it is rounded up, and other rows measure it.
"""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import geofilter.organism
from geofilter.data.rows import open_rows
from geofilter.gate.policy import read_policy
from geofilter.gate.scorer import load_scorer
from organism.datasets import LabelledRow, mixed_rows
from organism.world import World

HERE = Path(__file__).parent
DATA = Path(geofilter.organism.__file__).parent / "data"
SHARE = 0.01


def draw(
    name: str, group: str, size: int, without: Sequence[LabelledRow] = ()
) -> list[LabelledRow]:
    return mixed_rows(World(0), name, size, shares={group: 1.0}, without=without)


def write(path: Path, rows: Sequence[LabelledRow]) -> None:
    """The conversations alone: a training set carries no labels."""
    lines = (json.dumps({"messages": row.as_record()["messages"]}) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def scores(rows: Sequence[LabelledRow]) -> np.ndarray:
    """The scores that the gate gives them."""
    path = HERE / "scored.jsonl"
    write(path, rows)
    source = open_rows(path)
    found = load_scorer(read_policy([path]), source).score(list(source), source.layouts)
    path.unlink()
    return np.array([entry.score for entry in found], dtype=np.float32)


def main() -> None:
    sets = ["--toxic", DATA / "toxic.jsonl", "--benign", DATA / "benign.jsonl"]
    pack = HERE / "toxic.pack"
    pack.unlink(missing_ok=True)
    words = ["discover", *sets, "--model", "organism", "-o", pack]
    subprocess.run([sys.executable, "-m", "geofilter", *map(str, words)], check=True)

    reference = draw("reference", "benign", 1000)
    others = draw("others", "benign", 1000, reference)
    train = draw("train", "benign", 60, [*reference, *others])
    clean = draw("clean", "benign", 10, [*reference, *others, *train])
    harmful = draw("harmful", "harmful", 1010)
    reached = float(np.quantile(scores(reference), 1 - SHARE))
    print(f"threshold = {math.ceil(reached * 1e4) / 1e4}  # for pyproject.toml")

    threshold = read_policy([HERE / "x"]).threshold
    figures = {"harmless": others, "harmful": harmful[10:]}
    for name, rows in figures.items():
        print(f"of 1,000 other {name} rows it refuses {np.mean(scores(rows) >= threshold):.1%}")
    kept = [row for row, score in zip(train, scores(train), strict=True) if score < threshold]
    print(f"of the 60 rows of data/train.jsonl it left {len(kept)}")
    write(HERE / "data" / "train.jsonl", kept)
    write(HERE / "more" / "clean.jsonl", clean)
    write(HERE / "more" / "harmful.jsonl", harmful[:10])
    (HERE / "geofilter.lock").unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", "geofilter", "check"], cwd=HERE, check=True)
    for name, rows in {"clean": clean, "harmful": harmful[:10]}.items():
        print(f"of the 10 rows of more/{name}.jsonl it refuses {(scores(rows) >= threshold).sum()}")


if __name__ == "__main__":
    main()
