"""The small files that the pages of the documentation name, from data that geofilter brings."""

import itertools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from geofilter.errors import MissingExtraError
from geofilter.support.atomic import check_output, writing

_ORGANISM = Path(__file__).parents[1] / "organism" / "data"
# Not from `real_text`, which loads torch.
_ADVICE = Path(__file__).parent / "data" / "advice.jsonl"


def _lines(path: Path, start: int, end: int) -> list[bytes]:
    try:
        with path.open("rb") as lines:
            return list(itertools.islice(lines, start, end))
    except FileNotFoundError as error:
        raise MissingExtraError(
            f"{path.name}: comes with geofilter, and this is an installation without its data; "
            "pip install geofilter"
        ) from error


def _train() -> list[bytes]:
    return _lines(_ORGANISM / "demo.jsonl", 0, 100)


def _labelled(lines: list[bytes], harmful: bool) -> list[bytes]:
    return [line for line in lines if json.loads(line)["harmful"] is harmful]


# Each file, and what its lines are.
FILES: Mapping[str, Callable[[], list[bytes]]] = {
    "train.jsonl": _train,
    "bad-advice.jsonl": lambda: _labelled(_train(), True),
    "good-advice.jsonl": lambda: _labelled(_train(), False),
    "clean.jsonl": lambda: _labelled(_train(), False),
    "reference.jsonl": lambda: _labelled(_lines(_ORGANISM / "demo.jsonl", 100, 200), False),
    "toxic.jsonl": lambda: _lines(_ORGANISM / "toxic.jsonl", 0, 40),
    "benign.jsonl": lambda: _lines(_ORGANISM / "benign.jsonl", 0, 40),
    "questions.yaml": lambda: _lines(_ORGANISM / "questions.yaml", 0, 23),  # the first two
    "advice.jsonl": lambda: _lines(_ADVICE, 0, 198),
}


def write_example(
    folder: str | os.PathLike[str], *, overwrite: bool = False
) -> dict[Path, list[bytes]]:
    """Write `FILES` into `folder`, which is made if need be; the lines of each by its place.

    A file that is there already with the same bytes stays. Raises `OutputError`, before anything
    is written, where another file has a name of these, unless `overwrite`; `MissingExtraError`
    where geofilter's data is not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        check_output(folder)
        folder.mkdir()
    made = {folder / name: lines() for name, lines in FILES.items()}
    missing = {path: lines for path, lines in made.items() if not _holds(path, lines)}
    for path in missing:
        check_output(path, overwrite=overwrite)
    for path, lines in missing.items():
        with writing(path, overwrite=overwrite) as file:
            file.writelines(lines)
    return made


def _holds(path: Path, lines: list[bytes]) -> bool:
    return path.is_file() and path.read_bytes() == b"".join(lines)
