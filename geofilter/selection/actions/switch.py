"""Exchange the answers of preference rows that are the wrong way round: see `choose.margin`."""

from collections.abc import Mapping

from geofilter.data.two_answers import exchanged
from geofilter.selection.actions.base import Action, Done, Job, left_as_they_are, whole
from geofilter.selection.write import write_changed


def _switch(job: Job) -> Done:
    def change(record: Mapping[str, object]) -> dict[str, object]:
        return exchanged(job.rows.layouts, record)

    done = write_changed(
        job.rows, job.table, job.selection, job.output, change, overwrite=job.overwrite
    )
    line = f"{done.rows:,} rows got their two answers exchanged{done.where}."
    figures: dict[str, object] = {"switched": done.rows, "left": done.left}
    found = whole(job, "switch", figures, line, loss=False)
    return found._replace(notes=left_as_they_are(done))


SWITCH = Action(about="their two answers are exchanged; needs --margin", act=_switch, pairs=True)
