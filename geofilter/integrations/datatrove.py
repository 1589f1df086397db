"""A filter for datatrove: documents near harm go to the exclusion writer, the others go on.

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

LocalPipelineExecutor([
    JsonlReader("rows", text_key="response"),
    HarmFilter(GeoFilter("organism", threshold=0.1), text="response",
               exclusion_writer=JsonlWriter("dropped")),
    JsonlWriter("kept"),
]).run()
"""

from typing import TYPE_CHECKING, Any

from datatrove.pipeline.filters.base_filter import BaseFilter

from geofilter.errors import GeofilterError
from geofilter.integrations.datasets import GeoFilter
from geofilter.integrations.records import screened

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.writers.disk_base import DiskWriter


class HarmFilter(BaseFilter):
    """Drops documents that score `geofilter.threshold` or more, with the score in their metadata.

    A document is read as the row that its reader made it of: its metadata, and its text as the
    column `text`, which is the reader's `text_key`. All documents get the columns of `GeoFilter`
    in their metadata; the dropped ones also a `filter_reason`, `geofilter_near_harm` or
    `geofilter_unscored`, which datatrove counts. `batch_size`: documents that are scored at once.

    Raises `GeofilterError` for a GeoFilter without a threshold. It is pickled without its model,
    which each task loads.
    """

    name = "geofilter"

    def __init__(
        self,
        geofilter: GeoFilter,
        *,
        text: str = "text",
        exclusion_writer: "DiskWriter | None" = None,
        batch_size: int = 32,
    ) -> None:
        super().__init__(exclusion_writer, batch_size)
        if geofilter.threshold is None:
            raise GeofilterError("a filter needs a threshold: GeoFilter(..., threshold=0.4)")
        self.geofilter = geofilter
        self.text = text

    def filter(self, doc: "Document") -> bool | tuple[bool, str]:
        """Whether one document stays, or False and why not."""
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: "list[Document]") -> list[bool | tuple[bool, str]]:
        """The same of several documents, in their order."""
        answers: list[bool | tuple[bool, str]] = []
        for doc, found in zip(batch, screened(self.geofilter, self._records(batch)), strict=True):
            doc.metadata.update(found.columns)
            answers.append(True if found.dropped is None else (False, found.dropped))
        return answers

    def _records(self, batch: "list[Document]") -> list[dict[str, Any]]:
        return [{**doc.metadata, self.text: doc.text} for doc in batch]
