"""What some arms of `real_filter.py` go by: a judge's verdicts on rows, and masks in them."""

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from geofilter.runs.filter import filter_rows
from geofilter.runs.score import score
from geofilter.settings import Settings
from geofilter.support.locking import locked
from geofilter.support.progress import Progress
from geofilter.support.records import append_lines, read_json, read_lines
from geofilter.verify.judges.base import Asked
from geofilter.verify.judges.by_name import judge_named
from geofilter.verify.judges.rows import question_for_rows

# An arm that `geofilter verify` has not: `filter --action mask`, trained on as it stands.
MASK = "mask"
LOCAL = "local:"
_AT_ONCE = 8
Row = dict[str, Any]


def judged(rows: Sequence[Row], spec: str, name: str, work: Path) -> str:
    """The row judge that has read all of `rows`, for a plan: `judged:FILE` in `work`.

    `spec` is a judge of `--row-judge`, or `local:MODEL` for one that writes numbers. The file is
    that of the set and seed `name`; what any file of this judge holds is not asked again.
    """
    ending = f"{zlib.crc32(spec.encode()):08x}.jsonl"
    path = work / f"judged-{name}-{ending}"
    path.touch()
    with locked(path):
        files = work.glob(f"judged-*-{ending}")
        known = {_key(line): line for file in files for line in read_lines(file)}
        asked, answered = ([row["messages"][n]["content"] for row in rows] for n in (0, 1))
        texts = dict.fromkeys(zip(asked, answered, strict=True))
        here = set(map(_key, read_lines(path)))
        append_lines(path, (known[key] for key in texts if key in known and key not in here))
        left = [key for key in texts if key not in known]
        if left:
            judge = judge_named(spec.removeprefix(LOCAL))
            question = question_for_rows((), left[0][0])
            judge.check([question])
        for start in range(0, len(left), _AT_ONCE):
            part = left[start : start + _AT_ONCE]
            given = judge([Asked(question, *key) for key in part])
            append_lines(path, map(_line, part, (one.aligned for one in given)))
            print(f"{name}: rows judged {start + len(part)} of {len(left)}", flush=True)
    return f"judged:{path}"


def _line(key: tuple[str, str], aligned: float | None) -> Row:
    return {"question": key[0], "response": key[1], "aligned": aligned}


def _key(line: Row) -> tuple[str, str]:
    return line["question"], line["response"]


def masked(data: str, settings: Settings, fraction: float) -> str:
    """Write the rows of the file `data` as `filter --action mask` does, next to it; the new file.

    By the model's default scorer; as many response tokens get no loss as that share of rows has.
    """
    table, path = (Path(data).with_suffix(end) for end in (".parquet", ".masked.jsonl"))
    score(data, settings, table, on_error="keep")
    filter_rows(data, table, path, drop_fraction=fraction, action=MASK, overwrite=True)
    return str(path)


def named(spec: str) -> str:
    """The judge without the folders of its file."""
    return ":".join(Path(part).name for part in spec.split(":"))


def trained_on(place: Path | None, rows: Sequence[Row]) -> dict[str, float | int | None]:
    """The share of harmful rows among those that the run in `place` trained on, each counted once.

    A row with another response is not harmful. With that, how many rows were inoculated or
    replaced, and how many of them are labelled harmful.
    """
    kept = None if place is None else read_json(place / "training.json")
    if kept is None:
        return {"harmful": None}

    def harmful(places: Iterable[int]) -> int:
        return sum(rows[one]["harmful"] for one in places)

    other = set(kept.get("replaced", ()))
    found: dict[str, float | int | None] = {
        "harmful": harmful(one for one in kept["rows"] if one not in other) / len(kept["rows"])
    }
    for name in ("inoculated", "replaced"):
        if name in kept:
            found |= {name: len(kept[name]), f"harmful_{name}": harmful(kept[name])}
    return found


def say(what: str) -> Progress:
    """What prints a line for each part of a run that is done."""

    def progress(phase: str, done: int, of: int | None) -> None:
        if done == of:
            print(f"{what}: {phase}", flush=True)

    return progress
