"""What a full disk leaves of a command."""

from helpers.cli_mistakes import TINY, files


def test_a_full_disk_leaves_no_table(work, geofilter, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geofilter.scoring.table.pq.ParquetWriter.write_table", full)
    before = files()
    done = geofilter(f"score data.jsonl {TINY} --pack my.pack -o new.parquet")
    assert done.code == 2
    assert done.err.count("\n") == 2
    assert files() == before
