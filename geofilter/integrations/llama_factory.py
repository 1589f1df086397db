"""A recipe for LLaMA-Factory: a data set of `dataset_info.json`, and next to it its kept rows.

    keep("data", "advice", model="organism", drop_fraction=0.2)

adds `advice_kept`, which then stands for `advice` in `dataset:` of a training configuration.
"""

import json
import os
from pathlib import Path
from typing import Any

from geofilter.errors import DataError
from geofilter.integrations.kept_file import kept_file
from geofilter.support.atomic import writing
from geofilter.support.display import quote, shown

INFO = "dataset_info.json"
# What LLaMA-Factory calls a column, and what geofilter does.
_COLUMNS = {
    "alpaca": {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "system": "system",
        "history": "history",
    },
    "sharegpt": {"messages": "conversations", "system": "system", "tools": "tools"},
    "openai": {"messages": "messages"},
}
_RANKED = {"chosen": "chosen", "rejected": "rejected"}


def keep(folder: str | os.PathLike[str], name: str, **options: Any) -> str:
    """Screen the data set `name` of the folder; returns the name of that of the kept rows.

    `options`: fields of `Settings`, with `model`, and how rows are chosen and read, as in
    `screen`. Columns are read as `dataset_info.json` names them. Kept rows, and their scores, go
    next to the file, with `-kept` in the name.

    Raises `DataError` for a folder without the file, a data set that is not in it, and one that
    is no local file, and what `screen` raises.
    """
    info = Path(folder, INFO)
    try:
        listed = json.loads(info.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{shown(info)}: cannot be read; give the folder that holds it") from error
    entry = listed.get(name) if isinstance(listed, dict) else None
    if not isinstance(entry, dict):
        raise DataError(f"{shown(info)}: has no data set {quote(name)}; name one that it lists")
    file = entry.get("file_name")
    if not isinstance(file, str):
        raise DataError(
            f"{shown(info)}: {quote(name)} has no file_name; download it, and name the file there"
        )
    data = Path(folder, file)
    kept = data.with_name(f"{data.name.partition('.')[0]}-kept{''.join(data.suffixes)}")
    columns = _columns(entry) | dict(options.pop("columns", None) or {})
    kept_file(data, kept, {**options, "columns": columns})
    made = f"{name}_kept"
    listed[made] = {**entry, "file_name": str(kept.relative_to(folder))}
    with writing(info, overwrite=True) as out:
        out.write(json.dumps(listed, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")
    return made


def _columns(entry: dict[str, Any]) -> dict[str, str]:
    """The columns that the entry names otherwise than geofilter knows them."""
    form = str(entry.get("formatting", "alpaca"))
    known = _COLUMNS.get(form, {}) | (_RANKED if entry.get("ranking") else {})
    named = entry.get("columns")
    stated = named if isinstance(named, dict) else {}
    return {
        own: str(stated[theirs])
        for theirs, own in known.items()
        if stated.get(theirs) not in (None, own)
    }
