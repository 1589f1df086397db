"""A filter for Data-Juicer, by the name `geofilter_filter` in its recipes:

custom_operator_paths: [/path/to/geofilter/integrations/data_juicer.py]
process:
  - geofilter_filter:
      model: organism
      threshold: 0.1
"""

import math
from collections.abc import Iterable
from typing import Any

from data_juicer.ops.base_op import OPERATORS, Filter
from data_juicer.utils.constant import Fields

from geofilter.errors import GeofilterError
from geofilter.integrations.datasets import GeoFilter
from geofilter.integrations.records import geofilter_of, screened

_SCORE, _STATUS, _DROPPED = "geofilter_score", "geofilter_status", "geofilter_dropped"


@OPERATORS.register_module("geofilter_filter")
class GeofilterFilter(Filter):  # its name in Data-Juicer follows from that of the class
    """Drops samples that score `threshold` or more; the others go on.

    `model`: the one that is about to be trained. `options`: other fields of `Settings`, and
    arguments of `GeoFilter`. A sample is read as a row of a data set, by the columns that it
    fills. Each one's statistics get `geofilter_score` (higher = nearer to harm, NaN where it is
    unscored), `geofilter_status`, and `geofilter_dropped`, why it goes, empty where it stays.

    Raises `GeofilterError` for options that cannot be right. Each process loads the model.
    """

    _batched_op = True

    def __init__(
        self,
        model: str = "",
        threshold: float | None = None,
        options: dict[str, Any] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if threshold is None:
            raise GeofilterError("geofilter_filter needs a threshold, such as threshold: 0.4")
        self.geofilter: GeoFilter = geofilter_of(
            {"model": model, "threshold": threshold, **(options or {})}
        )

    def compute_stats_batched(self, samples: dict[str, Any], context: bool = False) -> Any:
        """The batch (column -> values), with the scores among its statistics."""
        stats: list[dict[str, Any]] = samples[Fields.stats]
        columns = [name for name in samples if name not in (Fields.stats, Fields.context)]
        records = [{name: samples[name][i] for name in columns} for i in range(len(stats))]
        for stat, found in zip(stats, screened(self.geofilter, records), strict=True):
            # Null has no type of its own, which the first batch gives to all the others.
            score = found.columns[_SCORE]
            stat[_SCORE] = math.nan if score is None else score
            stat[_STATUS] = found.columns[_STATUS]
            stat[_DROPPED] = found.dropped or ""
        return samples

    def process_batched(self, samples: dict[str, Any]) -> Iterable[bool]:
        """Whether each sample stays."""
        return [not stat[_DROPPED] for stat in samples[Fields.stats]]
