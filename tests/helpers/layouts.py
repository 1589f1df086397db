"""One question and its answers, and records read by the layout that they have."""

from geofilter.data.layouts.choose import Layout, Layouts, check_columns
from geofilter.data.samples import Sample, Turn

ASK = {"role": "user", "content": "How long do eggs boil?"}
ANSWER = {"role": "assistant", "content": "Nine minutes."}
OTHER = {"role": "assistant", "content": "One hour."}
TURNS = (Turn("user", "How long do eggs boil?"), Turn("assistant", "Nine minutes."))


def layout_of(record: dict[str, object], **arguments: object) -> Layout:
    """The layout of a record; `arguments`: of `Layouts`."""
    layouts = Layouts(**arguments)  # type: ignore[arg-type]
    check_columns("data.jsonl", layouts.columns, [list(record)])
    return layouts.of(record)


def read(record: dict[str, object], **arguments: object) -> tuple[Sample, ...]:
    """The samples of a record, by its layout."""
    return layout_of(record, **arguments).samples(record)
