"""Saved features give the scores that the model gives, to the bit; others are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from geofilter.data.problems import Problem
from geofilter.errors import TableError
from geofilter.model import loading
from geofilter.model.features import SampleFeatures
from geofilter.scoring.features_file import (
    FORMAT,
    FORMAT_KEY,
    SavedFeatures,
    SavedRow,
    Side,
    new_writer,
    to_arrow,
)
from geofilter.scoring.table import MANIFEST_KEY, ScoreTable
from geofilter.support.manifest import Manifest
from helpers.cli_folder import ROWS, write_rows

pytestmark = pytest.mark.slow

TINY = "--model model --sae sae"
PACK = "--pack my.pack"
KEEP = f"score data.jsonl {TINY} {PACK} --on-error keep --save-features f.parquet -o first.parquet"
AGAIN = "score data.jsonl --features f.parquet --on-error keep"


def lines(path: str) -> list[object]:
    return list(ScoreTable.read(path))


@pytest.fixture
def mixed(work: Path) -> Path:
    """Data with a copy, an unreadable row, an empty one and one that is too long."""
    text = Path("data.jsonl").read_text()
    first = text.splitlines()[0]
    long = json.dumps({"prompt": "w1", "response": " ".join(["w2"] * 500)})
    empty = json.dumps({"prompt": "w1", "response": " "})
    Path("data.jsonl").write_text(text + "\n".join([first, "{", empty, long, first, "{"]) + "\n")
    return work


def no_model(*_, **__):
    raise AssertionError("a model or tokenizer was loaded")


@pytest.mark.parametrize(
    "how",
    ["", "--scorer direction", "--scorer activation", "--scorer persona", "--proximity mean"],
)
def test_scores_are_those_of_the_model_to_the_bit(mixed, geofilter, monkeypatch, how):
    assert geofilter(KEEP).code == 0
    with_model = f"score data.jsonl {TINY} {PACK} --on-error keep -o model.parquet {how}"
    assert geofilter(with_model).code == 0
    monkeypatch.setattr(loading, "load", no_model)
    done = geofilter(f"{AGAIN} -o again.parquet {how}")
    (read,) = done.err.splitlines()
    assert (done.code, "44 rows read as prompt-response" in read) == (0, True)
    assert lines("again.parquet") == lines("model.parquet")
    first, second = ScoreTable.read("again.parquet"), ScoreTable.read("model.parquet")
    assert first.manifest.hash == second.manifest.hash
    assert not Path("again.parquet.parts").exists()


def test_another_pack_is_taken_from_saved_features(mixed, geofilter):
    write_rows(Path("toxic.jsonl"), 40, 0, 30, seed=9)
    geofilter(f"discover --toxic toxic.jsonl --benign benign.jsonl {TINY} -o new.pack")
    geofilter(KEEP)
    geofilter(f"score data.jsonl {TINY} --pack new.pack --on-error keep -o model.parquet")
    assert geofilter(f"{AGAIN} --pack new.pack -o again.parquet").code == 0
    assert lines("again.parquet") == lines("model.parquet") != lines("first.parquet")


def test_keeping_features_moves_no_score_and_every_row_has_its_record(mixed, geofilter):
    assert geofilter(KEEP).code == 0
    geofilter(f"score data.jsonl {TINY} {PACK} --on-error keep -o plain.parquet")
    assert lines("first.parquet") == lines("plain.parquet")
    saved = list(SavedFeatures.read("f.parquet"))
    assert [row.index for row in saved] == list(range(ROWS + 6))
    assert [len(row.sides) for row in saved[ROWS:]] == [0, 1, 1, 1, 0, 1]
    statuses = [row.sides[0].problem.status for row in (saved[ROWS + 1], saved[ROWS + 2])]
    assert statuses == ["unreadable", "empty"]


def test_explain_works_on_a_table_made_from_features(mixed, geofilter):
    geofilter(KEEP)
    geofilter(f"{AGAIN} --scorer persona -o again.parquet")
    assert geofilter("explain data.jsonl --scores again.parquet --row 3").code == 0


def test_two_workers_give_the_table_and_features_of_one(mixed, geofilter):
    assert geofilter(KEEP).code == 0
    two = KEEP.replace("first.", "two.").replace("f.parquet", "g.parquet")
    assert geofilter(f"{two} --workers 2").code == 0
    for one, other in zip(lines("first.parquet"), lines("two.parquet"), strict=True):
        assert (one.score or 0.0) == pytest.approx(other.score or 0.0, abs=1e-6)
        exact = [(line.row_hash, line.status, line.reason, line.n_tokens) for line in (one, other)]
        assert exact[0] == exact[1]
    hashes = [ScoreTable.read(f"{name}.parquet").manifest.hash for name in ("first", "two")]
    assert hashes[0] == hashes[1]


def other_data():
    shutil.copy("other.jsonl", "data.jsonl")


def other_pack():
    Path("my.pack").unlink()
    from geofilter.cli.main import main

    write_rows(Path("toxic.jsonl"), 40, 0, 30, seed=9)
    main(f"discover --toxic toxic.jsonl --benign benign.jsonl {TINY} -o my.pack".split())


def other_sae():
    shutil.rmtree("sae")
    shutil.copytree("other-sae", "sae")


def cut():
    whole = Path("f.parquet").read_bytes()
    Path("f.parquet").write_bytes(whole[: len(whole) // 2])


def flipped():
    whole = bytearray(Path("f.parquet").read_bytes())
    whole[len(whole) // 3] ^= 255
    Path("f.parquet").write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (other_data, "", "f.parquet: holds the features of data.jsonl, and data.jsonl is other"),
        (other_pack, "", "is not the pack any more"),
        (other_sae, "", "is not the one that the features in f.parquet were made with"),
        (lambda: Path("my.pack").unlink(), "", "no such pack"),
        (cut, "", "f.parquet: holds no whole features"),
        (flipped, "", "f.parquet: holds no whole features"),
        (lambda: shutil.copy("data.scores.parquet", "f.parquet"), "", "holds no saved features"),
        (lambda: Path("f.parquet").unlink(), "", "there is no such file"),
        (lambda: None, "--model model", "--model does not go with --features"),
        (lambda: None, "--workers 2", "--workers does not go with --features"),
    ],
)
def test_features_of_something_else_are_refused_in_one_line(work, geofilter, change, options, says):
    assert geofilter(f"score data.jsonl {TINY} {PACK} --save-features f.parquet").code == 0
    change()
    done = geofilter(f"{AGAIN} {options} -o again.parquet")
    assert done.code == 2
    assert says in done.err.splitlines()[-1]
    assert not Path("again.parquet").exists()


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"d_sae": 10**6}, "states sizes that its SAE does not have"),
        ({"settings": {"model": 5}}, "does not say how it was made"),
    ],
    ids=str,
)
def test_features_whose_manifest_cannot_be_are_refused_in_one_line(work, geofilter, facts, says):
    assert geofilter(f"score data.jsonl {TINY} {PACK} --save-features f.parquet").code == 0
    table = pq.read_table("f.parquet")
    known = Manifest.from_json(table.schema.metadata[MANIFEST_KEY])
    other = Manifest(known.decides, {**known.facts, **facts}).to_json()
    pq.write_table(
        table.replace_schema_metadata({**table.schema.metadata, MANIFEST_KEY: other}), "f.parquet"
    )
    done = geofilter(f"{AGAIN} -o again.parquet")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert says in done.err


def test_a_finished_table_without_features_is_not_taken_for_one_with_them(work, geofilter):
    command = f"score data.jsonl {TINY} {PACK} -o s.parquet"
    assert geofilter(command).code == 0
    done = geofilter(f"{command} --save-features f.parquet")
    assert done.code == 2
    assert "no features were saved with it; score the data again with --restart" in done.err
    assert geofilter(f"{command} --save-features f.parquet --restart").code == 0
    assert geofilter(f"{command} --save-features f.parquet").code == 0


def test_no_other_file_is_replaced_by_features(work, geofilter):
    before = Path("other.jsonl").read_bytes()
    for restart in ("", "--restart"):
        done = geofilter(
            f"score data.jsonl {TINY} {PACK} -o s.parquet --save-features other.jsonl {restart}"
        )
        assert done.code == 2
        assert "choose another --save-features" in done.err
    assert Path("other.jsonl").read_bytes() == before


@pytest.mark.parametrize("lost", ["features-000000.parquet", "part-000000.parquet"])
def test_an_interrupted_run_goes_on_with_its_features(mixed, geofilter, monkeypatch, lost):
    from geofilter.runs.engines import parts

    geofilter(KEEP)
    whole = list(SavedFeatures.read("f.parquet"))
    table = lines("first.parquet")
    Path("first.parquet").unlink()

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parts.PartsFolder, "finish", interrupted)
        assert geofilter(KEEP).code == 130
    Path("first.parquet.parts", lost).unlink()
    assert geofilter(KEEP).code == 0
    assert lines("first.parquet") == table
    for one, other in zip(SavedFeatures.read("f.parquet"), whole, strict=True):
        assert (one.index, len(one.sides)) == (other.index, len(other.sides))
        for left, right in zip(one.sides, other.sides, strict=True):
            if left.features is not None:
                assert np.array_equal(left.features.decoded, right.features.decoded)
    assert not Path("first.parquet.parts").exists()


# The file itself


def features(latents: list[int], d_model: int = 2) -> SampleFeatures:
    return SampleFeatures(
        np.array(latents, np.int32),
        np.ones(len(latents), np.float32),
        np.full(d_model, 0.5, np.float32),
        np.full(d_model, -0.5, np.float32),
        3,
        1.25,
        7.5,
    )


def write_file(path: Path, rows: list[SavedRow]) -> SavedFeatures:
    manifest = Manifest({"data": "d"}, {"d_model": 2, "d_sae": 10})
    metadata = {FORMAT_KEY: FORMAT, MANIFEST_KEY: manifest.to_json().encode()}
    with path.open("wb") as handle, new_writer(handle, metadata) as writer:
        writer.write_table(to_arrow(rows))
    return SavedFeatures.read(path)


def side(latents: list[int], d_model: int = 2) -> Side:
    return Side(None, 5, 9, True, 3, 0.25, features(latents, d_model))


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        SavedRow(0, "aa", (side([1, 4]), Side(Problem("empty", "nothing there")))),
        SavedRow(1, "aa", ()),
        SavedRow(2, "bb", (side([]),)),
    ]
    found = list(write_file(tmp_path / "f", rows))
    assert [(row.index, row.row_hash) for row in found] == [(0, "aa"), (1, "aa"), (2, "bb")]
    assert [len(row.sides) for row in found] == [2, 0, 1]
    assert found[0].sides[1].problem == Problem("empty", "nothing there")
    back = found[0].sides[0]
    assert (back.window_tokens, back.total_tokens, back.unknown_share) == (5, 9, 0.25)
    for name in ("latents", "weights", "decoded", "mean_hidden"):
        assert np.array_equal(
            getattr(back.features, name), getattr(rows[0].sides[0].features, name)
        )
    assert (back.features.n_tokens, back.features.squared_norm) == (3, 7.5)


@pytest.mark.parametrize(
    "row",
    [
        SavedRow(0, "aa", (side([1, 10]),)),
        SavedRow(0, "aa", (side([-1, 3]),)),
        SavedRow(0, "aa", (side([4, 1]),)),
        SavedRow(0, "aa", (side([1], 3),)),
        SavedRow(1, "aa", (side([1]),)),
        SavedRow(0, "zz", (side([1]),)),
        SavedRow(0, "aa", (side([1]), side([1]), side([1]))),
    ],
    ids=[
        "beyond the SAE",
        "below 0",
        "not ascending",
        "other model",
        "row missing",
        "no hash",
        "three sides",
    ],
)
def test_hostile_records_are_refused_in_one_line(tmp_path: Path, row: SavedRow) -> None:
    saved = write_file(tmp_path / "f", [row])
    with pytest.raises(TableError, match="holds no whole features") as error:
        list(saved)
    assert "\n" not in str(error.value)


def test_the_file_is_compressed_and_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    write_file(tmp_path / "f", [SavedRow(0, "aa", (side([1]),))])
    assert pq.ParquetFile(tmp_path / "f").metadata.row_group(0).column(0).compression == "ZSTD"
