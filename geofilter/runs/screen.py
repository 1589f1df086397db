"""Score a data set and filter it by its scores in one go: `score`, then `filter_rows`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from geofilter.data.formats.standard_output import STDOUT, check_stdout
from geofilter.data.outputs import check_outputs
from geofilter.data.reading import UNREAD_LIMIT, OnReading, unheard
from geofilter.data.rows import Data, open_rows
from geofilter.errors import GeofilterError
from geofilter.runs.choice import Choice
from geofilter.runs.engines.threads import OnError
from geofilter.runs.filter import Filtered, Place, filter_rows
from geofilter.runs.score import Scored, default_output, score
from geofilter.selection import choose
from geofilter.selection.choose import Unscored
from geofilter.settings import Settings
from geofilter.support.progress import Progress, no_progress


@dataclass(frozen=True)
class Screened:
    """What `score` made, and what `filter_rows` did with it."""

    scored: Scored
    filtered: Filtered


def screen(
    data: Data,
    settings: Settings,
    output: Place,
    *,
    scores: Place | None = None,
    drop_fraction: float | None = None,
    threshold: float | None = None,
    fdr: float | None = None,
    reference: Place | None = None,
    dropped: Place | None = None,
    unscored: Unscored = "keep",
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    workers: int | None = None,
    on_error: OnError = "stop",
    unread_limit: float = UNREAD_LIMIT,
    restart: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
    on_reading: OnReading = unheard,
) -> Screened:
    """Score `data` as `settings` say, and write the rows that are kept to `output`.

    `scores`: where the score table goes, by default as in `score`. A table that is finished
    there is taken, and one that was interrupted goes on, unless `restart`. The other arguments
    are those of `score` and of `filter_rows`. What is wrong with the choice or with an output is
    found before any row is scored.

    Raises what `score` and `filter_rows` raise.
    """
    choice = Choice(drop_fraction, threshold, fdr, reference)
    if choice.given != 1:
        raise GeofilterError("give one of --drop-fraction, --threshold and --fdr")
    choice.check()
    # One row without a score: what is refused of it is refused of any rows.
    nothing = np.ma.MaskedArray(np.zeros(1), mask=True)
    if drop_fraction is not None:
        choose.drop_fraction(nothing, drop_fraction)
    if threshold is not None:
        choose.threshold(nothing, threshold)
    if output == STDOUT:
        check_stdout(open_rows(data, layout=layout, columns=columns).format)
    table = default_output(data) if scores is None else scores
    named = [one for one in (output, dropped, table) if one is not None and one != STDOUT]
    places = [os.path.realpath(one) for one in named]
    if len(set(places)) < len(places):
        raise GeofilterError("-o, --dropped and --scores name the same file; give each its own")
    check_outputs((output, dropped), (data, reference), overwrite=overwrite)
    scored = score(
        data,
        settings,
        table,
        layout=layout,
        columns=columns,
        workers=workers,
        on_error=on_error,
        unread_limit=unread_limit,
        restart=restart,
        progress=progress,
        on_reading=on_reading,
    )
    filtered = filter_rows(
        data,
        table,
        output,
        drop_fraction=drop_fraction,
        threshold=threshold,
        fdr=fdr,
        reference=reference,
        dropped=dropped,
        unscored=unscored,
        overwrite=overwrite,
        trust_remote_code=settings.trust_remote_code,
        progress=progress,
    )
    return Screened(scored, filtered)
