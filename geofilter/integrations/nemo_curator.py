"""A stage for NeMo Curator: documents near harm leave the batch.

pipeline = Pipeline(name="curate", stages=[
    JsonlReader("rows"), HarmStage(model="organism", threshold=0.1), JsonlWriter("kept"),
])
"""

from dataclasses import dataclass, field
from typing import Any

from nemo_curator.stages.base import ProcessingStage
from nemo_curator.tasks import DocumentBatch

from geofilter.integrations.datasets import COLUMNS, GeoFilter
from geofilter.integrations.records import geofilter_of, screened


@dataclass
class HarmStage(ProcessingStage[DocumentBatch, DocumentBatch]):
    """Adds the columns of `GeoFilter` to the documents, and drops those of `threshold` or more.

    `model`: the one that is about to be trained. `options`: other fields of `Settings`, and
    arguments of `GeoFilter`. A document is read as a row of a data set, by the columns that it
    fills. Without a `threshold` all stay. Each worker loads the model in `setup`.

    Raises `GeofilterError` in `setup` for options that cannot be right.
    """

    model: str = ""
    threshold: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    name: str = "geofilter"

    def __post_init__(self) -> None:
        self._geofilter: GeoFilter | None = None

    def inputs(self) -> tuple[list[str], list[str]]:
        """Documents; of their columns none is needed by its name."""
        return ["data"], []

    def outputs(self) -> tuple[list[str], list[str]]:
        """Documents, with these columns."""
        return ["data"], list(COLUMNS)

    def setup(self, worker_metadata: Any = None) -> None:
        """Make the GeoFilter, in the process that scores."""
        self._geofilter = geofilter_of(
            {"model": self.model, "threshold": self.threshold, **self.options}
        )

    def process(self, task: DocumentBatch) -> DocumentBatch:
        """The batch of the documents that stay, in their order."""
        if self._geofilter is None:
            self.setup()
        assert self._geofilter is not None
        documents = task.to_pandas()
        records = [
            {name: _plain(value) for name, value in one.items()}
            for one in documents.to_dict(orient="records")
        ]
        found = screened(self._geofilter, records)
        scored = documents.assign(
            **{name: [one.columns[name] for one in found] for name in COLUMNS}
        )
        task.data = scored[[one.dropped is None for one in found]].reset_index(drop=True)
        return task


def _plain(value: Any) -> Any:
    """A value of a data frame as a row has it: arrays as lists, NaN as null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if isinstance(value, float) and value != value else value
