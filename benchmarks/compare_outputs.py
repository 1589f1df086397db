"""What two runs of the same commands wrote, read as plain values and compared.

For `compare_checkouts.py`, which has the commands.
"""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors import safe_open

# Nothing of these is compared; of wording, only whether there is any.
IGNORED = {"versions", "started", "hash", "seconds", "bytes"}
WORDING = {"message", "note", "warning", "warnings", "shortDescription", "fullDescription", "help"}
# Pictures and binary files whose bytes hold times; that they were written is compared.
UNREAD = {".png", ".svg", ".features"}
# Of `--help`: options, and their defaults. Of what else is for people: numbers.
OPTION = re.compile(r"^  (-.+?)(?:  |$)|\[default: [^\]]+\]", re.MULTILINE)
NUMBER = re.compile(r"\d[\d.,]*(?:e[+-]?\d+)?")
_SHOWN = 60


class Figures(HTMLParser):
    """The figures of a page: shapes of drawings, shades of tokens, numbers in cells and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the shape or shade of an element."""
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "br", "col"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the shape or shade of an element."""
        words = {"id", "role"} | {name for name, _ in attrs if name.startswith("aria-")}
        if tag in ("svg", "mark") or "svg" in self._open:
            kept = sorted(f"{name}={value}" for name, value in attrs if name not in words)
            self.found.append(f"{tag} {' '.join(kept)}")

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Note the numbers of a cell, a tile or the head of a row."""
        around = set(self._open)
        if {"td", "th", "b", "strong", "span"} & around and "caption" not in around:
            self.found += NUMBER.findall(data)


def read(path: Path) -> Any:
    """What a file says, as plain values."""
    if path.suffix in UNREAD:
        return None
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        types = {field.name: str(field.type) for field in table.schema}
        held = {key.decode(): _parsed(value) for key, value in _metadata(table).items()}
        return {"columns": types, "values": table.to_pydict(), "metadata": held}
    if path.suffix == ".pack":
        with safe_open(path, framework="numpy") as handle:
            arrays = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            held = {key: _parsed(value) for key, value in (handle.metadata() or {}).items()}
        values = {name: [str(a.dtype), a.shape, a.tolist()] for name, a in arrays.items()}
        return {"header": held, "arrays": values}
    if path.suffix == ".html":
        figures = Figures()
        figures.feed(path.read_text(encoding="utf-8"))
        return figures.found
    content = path.read_bytes().decode("latin-1")  # every byte is a character
    if path.name == "geometry.json":
        return _parsed(content)
    lines = content.split("\n")
    return [*map(_parsed, lines)] if path.suffix == ".lock" else lines


def _metadata(table: Any) -> dict[bytes, bytes]:
    return {k: v for k, v in (table.schema.metadata or {}).items() if k != b"ARROW:schema"}


def _parsed(text: str | bytes) -> Any:
    """The value of a JSON text; any other text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def said(step: dict[str, Any]) -> Any:
    """What a command printed: its JSON, or else its options or numbers."""
    value = _parsed(step["stdout"])
    if isinstance(value, dict | list):
        return value
    _, head, options = step["stdout"].rpartition("\nOptions:\n")
    if head:
        return [" ".join(match[0].split()) for match in OPTION.finditer(options)]
    return NUMBER.findall(step["stdout"])


def first_difference(before: Any, after: Any, place: str = "") -> str | None:
    """Where two values differ first, and how; floats are equal when every bit is."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            inner = f"{place}.{key}".lstrip(".")
            if key not in before or key not in after:
                return f"{inner}: only {'before' if key in before else 'after'}"
            if key in WORDING and bool(before[key]) == bool(after[key]):
                continue
            if key not in IGNORED and (found := first_difference(before[key], after[key], inner)):
                return found
        return None
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        for index, (left, right) in enumerate(zip(before, after, strict=False)):
            if found := first_difference(left, right, f"{place}[{index}]"):
                return found
        return f"{place}: {len(before)} items, {len(after)}" if len(before) != len(after) else None
    left, right = repr(before), repr(after)
    if type(before) is type(after) and left == right:
        return None
    same = next(
        (at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), 0
    )
    start = max(0, same - _SHOWN // 3)
    return f"{place}: {left[start : start + _SHOWN]} before, {right[start : start + _SHOWN]} after"


def greatest(before: Any, after: Any) -> str:
    """How far scores lie apart at most, for two score tables with the same rows."""
    left, right = (side["values"].get("score", []) for side in (before, after))
    pairs = [(a, b) for a, b in zip(left, right, strict=False) if a is not None and b is not None]
    if len(left) != len(right) or not pairs:
        return ""
    return f" (scores differ by {max(abs(a - b) for a, b in pairs):.3g} at most)"


def _of_step(before: dict[str, Any], after: dict[str, Any], folders: list[Path]) -> Iterator[str]:
    """The differences between what one command did in both, each as it is met."""
    for side, step in (("before", before), ("after", after)):
        if "Traceback" in step["stderr"]:
            yield f"crashed {side}: {step['stderr'].strip().splitlines()[-1]}"
    if before["code"] != after["code"]:
        yield f"exit code {before['code']} before, {after['code']} after: {after['stderr'].strip()}"
    for what in ("written", "gone"):
        if found := first_difference(before[what], after[what], f"files {what}"):
            yield found
    for name in before["written"]:
        if name in after["written"]:
            values = [read(folder / name) for folder in folders]
            if found := first_difference(*values):
                more = greatest(*values) if name.endswith(".parquet") else ""
                yield f"{name} {found}{more}"
    if found := first_difference(said(before), said(after)):
        yield f"standard output {found}"


def differences(before: Any, after: Any, root: Path) -> list[dict[str, Any]]:
    """For each command what was compared, and the first difference, or None."""
    inputs = first_difference(before["inputs"], after["inputs"])
    count = f"{len(before['inputs'])} files"
    found: list[dict[str, Any]] = [
        {"what": "inputs", "command": count, "difference": inputs, "result": _result(inputs)}
    ]
    steps = zip(before["asked"]["steps"], before["steps"], after["steps"], strict=True)
    for number, ((what, command, _), old, new) in enumerate(steps):
        folders = [root / side / "outputs" / str(number) for side in ("before", "after")]
        first = next(_of_step(old, new, folders), None)
        facts: dict[str, Any] = {
            "what": what,
            "command": command,
            "difference": first,
            "result": f"{_result(first)}, exit {old['code']}, files {len(old['written'])}",
            "codes": [old["code"], new["code"]],
            "files": old["written"],
            "seconds": [old["seconds"], new["seconds"]],
        }
        found.append(facts)
    return found


def _result(difference: str | None) -> str:
    return "equal" if difference is None else "DIFFERS"
