"""A step for distilabel: rows get their scores, and whether they stay.

with Pipeline() as pipeline:
    rows = LoadDataFromDicts(data=...)
    scored = ScoreHarm(model="organism", threshold=0.1)
    rows >> scored
"""

from typing import TYPE_CHECKING, Any

from distilabel.steps.base import Step, StepInput
from pydantic import Field, PrivateAttr

from geofilter.integrations.datasets import COLUMNS, GeoFilter
from geofilter.integrations.records import geofilter_of, screened

if TYPE_CHECKING:
    from distilabel.typing import StepOutput

KEEP = "keep_row_after_geofilter"


class ScoreHarm(Step):
    """Adds the columns of `GeoFilter`, and `keep_row_after_geofilter`, to every row.

    A row of the pipeline is read as a row of a data set, by the columns that it fills. `model`:
    the one that is about to be trained; `options`: other fields of `Settings`, and arguments of
    `GeoFilter`, such as `{"pack": "my.pack", "columns": {"response": "generation"}}`.
    `threshold`: rows with this score or a higher one are not to be kept; no row is removed, as
    with distilabel's own filters. A step is serialised without its model, which `load` makes.
    """

    model: str
    threshold: float | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    _geofilter: GeoFilter | None = PrivateAttr(None)

    @property
    def inputs(self) -> list[str]:
        """None is needed: the columns decide how a row is read."""
        return []

    @property
    def outputs(self) -> list[str]:
        """The columns that are added."""
        return [*COLUMNS, KEEP]

    def load(self) -> None:
        """Make the GeoFilter. Raises `GeofilterError` for options that cannot be right."""
        super().load()
        self._geofilter = geofilter_of(
            {"model": self.model, "threshold": self.threshold, **self.options}
        )

    def process(self, inputs: StepInput) -> "StepOutput":
        """The rows of a batch, with what is added to each."""
        assert self._geofilter is not None  # `load` came before
        found = screened(self._geofilter, inputs)
        yield [
            {**row, **one.columns, KEEP: one.dropped is None}
            for row, one in zip(inputs, found, strict=True)
        ]
