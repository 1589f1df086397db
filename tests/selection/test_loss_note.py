"""Notes beside rows are read as they were written, from every format, and forged ones refused."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from geofilter.data.formats.source import LossNote
from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from geofilter.selection.loss_note import RowLoss, name_of, read_row_loss


@pytest.mark.parametrize(
    "note",
    [
        {"weight": "nan"},
        {"weight": 2},
        {"weight": "1; rm"},
        {"masked": "5:3"},
        {"masked": "1:4 2:5"},
        {"masked": "0:99999999"},
        {"masked": "-3:2"},
        {"masked": "\x1b[2J"},
    ],
)
def test_a_forged_note_is_refused_in_one_visible_line(note: dict[str, object]) -> None:
    ids = np.arange(4, dtype=np.int32)
    whole = RowLoss.masking(name_of(ids), ids > 2).note(0.1, 1)._asdict() | note
    with pytest.raises(DataError, match="note next to the row is damaged") as error:
        read_row_loss({"geofilter": whole}).mask_of(ids)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_notes_survive_csv_as_datasets_reads_it(suffix: str, tmp_path: Path) -> None:
    """An empty cell comes back as None: a row of which nothing is masked, or that is weighed."""
    ids = np.arange(6, dtype=np.int32)
    some = [RowLoss.masking(name_of(ids), (ids > 1) & (ids < 4)), RowLoss(), RowLoss()]
    sets = {"some": some, "none": [RowLoss()] * 3, "weights": [RowLoss(w) for w in (0.5, 1, 0)]}
    between = "\t" if suffix == "tsv" else ","
    data = tmp_path / f"data.{suffix}"
    data.write_text(f"prompt{between}completion\n" + f"a{between}b\n" * 3)
    for name, losses in sets.items():
        out = tmp_path / f"{name}.{suffix}"
        notes = [loss.note(0.1, 1) for loss in losses]
        open_rows(data).write(out, range(3), notes=notes.__getitem__, kind=LossNote)
        rows = Dataset.from_csv(str(out), sep=between, cache_dir=str(tmp_path / "cache"))
        assert [read_row_loss(row).note(0.1, 1) for row in rows] == notes
        frame = [dict(row) for row in rows.to_pandas().to_dict("records")]  # None is NaN there
        assert [read_row_loss(row).note(0.1, 1) for row in frame] == notes


def test_a_note_whose_masks_are_gone_is_none() -> None:
    assert read_row_loss({"geofilter_weight": 1.0, "geofilter_tokens": ""}) is None
    assert read_row_loss({"geofilter": {"weight": 1.0}}) is None


def test_the_note_of_a_dropped_row_is_none_for_a_trainer() -> None:
    assert read_row_loss({"geofilter": {"score": 1.0, "rank": 1}, "text": "x"}) is None
    assert read_row_loss({"geofilter_score": 1.0}) is None
