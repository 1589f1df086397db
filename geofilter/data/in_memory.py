"""Rows that are in memory, given where a file or columns are read: what they are, what to do.

Nothing is imported for it: a value of pandas, polars, Arrow or `datasets` is known by the
module and the name of its class.
"""

from collections.abc import Mapping
from typing import NamedTuple

from geofilter.support.display import kind_of


class _Kind(NamedTuple):
    name: str
    save: str  # a call that makes a file of it; empty where it is in no file at once
    data_set: str  # an expression that makes a data set of it


# Top module and class -> what it is. `rows` stands for the value.
_KINDS: Mapping[tuple[str, str], _Kind] = {
    ("pandas", "DataFrame"): _Kind(
        "a pandas DataFrame",
        "rows.to_json('rows.jsonl', orient='records', lines=True)",
        "Dataset.from_pandas(rows)",
    ),
    ("polars", "DataFrame"): _Kind(
        "a polars DataFrame", "rows.write_ndjson('rows.jsonl')", "Dataset.from_polars(rows)"
    ),
    ("polars", "LazyFrame"): _Kind(
        "a polars LazyFrame",
        "rows.collect().write_ndjson('rows.jsonl')",
        "Dataset.from_polars(rows.collect())",
    ),
    ("pyarrow", "Table"): _Kind(
        "an Arrow table",
        "pyarrow.parquet.write_table(rows, 'rows.parquet')",
        "Dataset(rows)",
    ),
    ("datasets", "Dataset"): _Kind("a Dataset", "rows.to_json('rows.jsonl')", "rows"),
    ("datasets", "IterableDataset"): _Kind("a stream", "", "rows"),
    ("datasets", "DatasetDict"): _Kind(
        "a DatasetDict", "rows['train'].to_json('rows.jsonl')", "rows"
    ),
    ("datasets", "IterableDatasetDict"): _Kind("an IterableDatasetDict", "", "rows"),
    ("builtins", "list"): _Kind(
        "a list", "Dataset.from_list(rows).to_json('rows.jsonl')", "Dataset.from_list(rows)"
    ),
    ("builtins", "tuple"): _Kind(
        "a tuple",
        "Dataset.from_list(list(rows)).to_json('rows.jsonl')",
        "Dataset.from_list(list(rows))",
    ),
    ("builtins", "dict"): _Kind(
        "a dict", "Dataset.from_dict(rows).to_json('rows.jsonl')", "Dataset.from_dict(rows)"
    ),
}


def _known(value: object) -> _Kind | None:
    for base in type(value).__mro__:
        if found := _KINDS.get((base.__module__.partition(".")[0], base.__name__)):
            return found
    return None


def name_of(value: object) -> str:
    """What it is, in words: "a pandas DataFrame"."""
    known = _known(value)
    return kind_of(value) if known is None else known.name


def no_file(value: object) -> str:
    """Why this is not the name of a data set, and how to make a file of it or score it as it is."""
    known = _known(value)
    text = f"the data is {name_of(value)}, not the name of a file or folder; "
    if known is None:
        return text + "give a name, such as 'train.jsonl'"
    scored = f"score it as it is with {known.data_set}.map(GeoFilter(...), batched=True)"
    return text + (f"save it first, with {known.save}, or {scored}" if known.save else scored)


def data_set_of(value: object) -> str | None:
    """The expression that makes a `datasets` data set of `rows`; None for what holds no rows."""
    known = _known(value)
    return None if known is None else known.data_set
