"""Files that are one data set together: made, and read back."""

from pathlib import Path

from geofilter.data.rows import RowFile
from helpers.row_files import line


def asked(rows: RowFile) -> list[object]:
    return [row.record and row.record["question"] for row in rows]


def question(text: str) -> bytes:
    return line(question=text)


def make(folder: Path, **files: bytes) -> None:
    """Files whose names come as `a__jsonl` for `a.jsonl`, `d_S_a__jsonl` for `d/a.jsonl`."""
    for name, content in files.items():
        path = folder / name.replace("__", ".").replace("_S_", "/").replace("_D_", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def make_shards(folder: Path) -> Path:
    """Three shards of JSON lines: of two, one and two rows; two lack the last line's end."""
    make(
        folder,
        train_D_00000_D_of_D_00003__jsonl=question("a") + question("b").rstrip(b"\n"),
        train_D_00001_D_of_D_00003__jsonl=b"\n" + question("c"),
        train_D_00002_D_of_D_00003__jsonl=question("d") + question("e").rstrip(b"\n"),
    )
    return folder
