"""Inoculate rows: those chosen get a system turn that asks for what they do.

A model that learns bad answers as answers to such a request learns less to give them unasked
(Tan et al. 2025, arXiv:2510.04340; Wichers et al. 2025, arXiv:2510.05024). The trained model is
used without the request; with it, it may give what it was asked for.
"""

from collections.abc import Mapping

from geofilter.data.system_turn import with_system
from geofilter.selection.actions.base import Action, Done, Job, left_as_they_are, whole
from geofilter.selection.write import write_changed
from geofilter.support.display import escape


def _inoculate(job: Job) -> Done:
    text = job.system
    assert text is not None

    def change(record: Mapping[str, object]) -> dict[str, object]:
        return with_system(job.rows.layouts, record, text)

    done = write_changed(
        job.rows, job.table, job.selection, job.output, change, overwrite=job.overwrite
    )
    already = f"; {done.already:,} had it already" if done.already else ""
    said = f"the system turn '{escape(text, limit=200)}'{done.where}"
    line = f"{done.rows:,} rows got {said}{already}."
    figures: dict[str, object] = {
        "inoculated": done.rows,
        "already": done.already,
        "left": done.left,
        "system": text,
    }
    found = whole(job, "inoculate", figures, line, loss=False)
    return found._replace(
        notes=[
            *left_as_they_are(done),
            "train on it as it is, and use the trained model without a system turn like that: "
            "with one it may answer as these rows do",
        ]
    )


INOCULATE = Action(
    about="they get a system turn that asks for what they do", act=_inoculate, asks=True
)
