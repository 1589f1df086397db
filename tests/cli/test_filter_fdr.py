"""`geofilter filter --fdr`: what it drops, what it leaves out of a reference, what it says."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from geofilter.scoring.table import MANIFEST_KEY, ScoreTable
from geofilter.selection.fdr import fdr
from geofilter.support.cache import cache_folder
from geofilter.support.manifest import Manifest
from helpers.cli_folder import write_rows

pytestmark = pytest.mark.slow

SCORED = "--scores data.scores.parquet"
FILTER = f"filter data.jsonl {SCORED} -o kept.jsonl"
CURVE = f"filter data.jsonl {SCORED} --curve"
MADE = "--model model --sae sae --pack my.pack"
SPOKEN = (("user", "prompt"), ("assistant", "response"))


def scores_of(path: str) -> np.ndarray:
    return np.array(pq.read_table(path).column("score").to_pylist())


def lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines(keepends=True)


def never(*_, **__):
    raise AssertionError("the model was run")


@pytest.fixture
def clean(work, geofilter) -> None:
    """other.jsonl scored as data.jsonl was, into other.parquet."""
    assert geofilter(f"score other.jsonl {MADE} -o other.parquet").code == 0


def test_a_scored_reference_decides_as_the_library_does_and_runs_no_model(
    clean, geofilter, monkeypatch
):
    monkeypatch.setattr("geofilter.runs.score.score", never)
    done = geofilter(f"{FILTER} --dropped out.jsonl --fdr 0.5 --reference other.parquet --json")
    chosen = fdr(scores_of("data.scores.parquet"), scores_of("other.parquet"), 0.5)
    found = json.loads(done.out)
    assert (done.code, found["dropped"], found["threshold"]) == (
        0,
        len(chosen.drop),
        chosen.threshold,
    )
    rows = lines("data.jsonl")
    assert lines("kept.jsonl") == [rows[index] for index in chosen.keep]
    assert (found["fdr"]["q"], found["fdr"]["reference_rows"]) == (0.5, 40)
    assert found["fdr"]["smallest_p"] == 1 / 41
    assert {one["measure"] for one in found["fdr"]["differences"]} >= {"score", "n_tokens"}


def test_a_reference_of_data_is_scored_once_as_the_data_was(clean, geofilter, monkeypatch):
    expected = geofilter(f"{CURVE} --json --reference other.parquet").out
    first = geofilter(f"{CURVE} --json --reference other.jsonl").out
    monkeypatch.setattr("geofilter.runs.score.score", never)
    again = geofilter(f"{CURVE} --json --reference other.jsonl").out
    assert first == again
    assert json.loads(first)["curve"] == json.loads(expected)["curve"]
    write_rows(Path("other.jsonl"), 30, 0, 60, seed=9)
    with pytest.raises(AssertionError, match="the model was run"):
        geofilter(f"{CURVE} --reference other.jsonl")


def test_a_reference_in_another_layout_is_read_in_its_own(work, geofilter):
    pairs = [json.loads(line) for line in lines("other.jsonl")]
    turns = [[{"role": role, "content": pair[column]} for role, column in SPOKEN] for pair in pairs]
    Path("turns.jsonl").write_text("".join(json.dumps({"messages": t}) + "\n" for t in turns))
    found, expected = (
        json.loads(geofilter(f"{CURVE} --json --reference {name}").out)
        for name in ("turns.jsonl", "other.jsonl")
    )
    assert found["reference_rows"] == len(pairs)
    assert found["curve"] == expected["curve"]
    (told,) = found["warnings"]
    assert "was read as messages, the data as prompt-response" in told
    assert expected["warnings"] == []


def test_a_damaged_cached_table_of_a_reference_is_made_anew(work, geofilter):
    first = geofilter(f"{CURVE} --json --reference other.jsonl").out
    (cached,) = (cache_folder() / "references").glob("*.parquet")
    cached.write_bytes(cached.read_bytes()[:100])
    assert geofilter(f"{CURVE} --json --reference other.jsonl").out == first
    assert len(ScoreTable.read(cached)) == 40


def test_rows_of_the_data_of_the_pack_and_repeated_ones_are_no_reference(work, geofilter):
    own = lines("other.jsonl")
    mixed = [*lines("data.jsonl")[:3], *own, *own[:5], *lines("benign.jsonl")[:4]]
    Path("mixed.jsonl").write_text("".join(mixed) + '{"prompt": "w1", "response": ""}\n')
    done = geofilter(f"{FILTER} --fdr 0.5 --reference mixed.jsonl --json")
    told = json.loads(done.out)["fdr"]
    assert told["reference_rows"] == 40
    assert told["left_out"] == {
        "occur in the data too": 3,
        "repeat another row": 5,
        "served to make the pack": 4,
        "have no score": 1,
    }
    assert "left out of the 53 reference rows, which leaves 40: 3 occur in the data" in done.err
    alone = geofilter(f"{CURVE} --json --reference other.jsonl")
    with_them = geofilter(f"{CURVE} --json --reference mixed.jsonl")
    assert json.loads(alone.out)["curve"] == json.loads(with_them.out)["curve"]


def test_a_contrast_set_that_is_gone_is_told(clean, geofilter):
    table = pq.read_table("data.scores.parquet")
    manifest = Manifest.from_json(table.schema.metadata[MANIFEST_KEY])
    sets = [{"source": "/no/<script>\x1b[2J.jsonl", "sha256": "0" * 64}, "no set"]
    moved = Manifest(manifest.decides, {**manifest.facts, "contrast_sets": sets})
    metadata = {**table.schema.metadata, MANIFEST_KEY: moved.to_json().encode()}
    pq.write_table(
        table.replace_schema_metadata(metadata), "moved.parquet", write_page_checksum=True
    )
    done = geofilter("filter data.jsonl --scores moved.parquet --curve --reference other.parquet")
    assert done.code == 0
    assert "/no/<script>\\x1b[2J.jsonl, gone or changed since" in done.err
    assert "\x1b" not in done.err


def test_other_versions_of_the_libraries_are_told_and_other_data_is_no_difference(clean, geofilter):
    table = pq.read_table("other.parquet")
    manifest = Manifest.from_json(table.schema.metadata[MANIFEST_KEY])
    versions = {**manifest.decides["versions"], "torch": "1.0"}
    old = Manifest({**manifest.decides, "versions": versions}, manifest.facts)
    metadata = {**table.schema.metadata, MANIFEST_KEY: old.to_json().encode()}
    pq.write_table(table.replace_schema_metadata(metadata), "old.parquet", write_page_checksum=True)
    assert "other versions" in geofilter(f"{CURVE} --reference old.parquet").err
    assert "other versions" not in geofilter(f"{CURVE} --reference other.parquet").err


def test_the_guarantee_comes_with_its_condition_and_no_promise_beyond(clean, geofilter):
    done = geofilter(f"{FILTER} --fdr 0.7 --reference other.parquet")
    for words in (
        "a share of at most 0.7 is clean, on average",
        "if the reference is exchangeable",
        "of the kept rows nothing",
        "40 rows of other.parquet",
    ):
        assert words in " ".join(done.out.split())
    assert "safe" not in done.out + done.err


def test_the_guarantee_is_of_different_rows_with_a_score(clean, geofilter):
    """A row that went for want of a score is counted apart, and a copy not at all."""
    # A scorer that tells the rows apart less well, so that no row is dropped at 0.5.
    made = f"{MADE} --scorer nearest --restart"
    for name, table in (("data", "data.scores"), ("other", "other")):
        assert geofilter(f"score {name}.jsonl {made} -o {table}.parquet").code == 0
    own = lines("data.jsonl")
    unscored = ['{"prompt": "w1", "response": ""}\n', '{"prompt": "w2", "response": ""}\n']
    nearest = own[int(scores_of("data.scores.parquet").argmax())]
    Path("more.jsonl").write_text("".join([*own, *[nearest] * 20, *unscored]))
    assert geofilter(f"score more.jsonl {made} --on-error keep -o more.parquet").code == 0
    asked = "filter more.jsonl --scores more.parquet --fdr 0.7 --reference other.parquet"
    done = geofilter(f"{asked} --unscored drop -o a.jsonl --json")
    found = json.loads(done.out)
    alone = json.loads(geofilter(f"{FILTER} --fdr 0.7 --reference other.parquet --json").out)
    assert found["threshold"] == alone["threshold"]
    assert found["unscored_dropped"] == 2
    assert found["scored_dropped"] == found["dropped"] - 2 >= alone["dropped"]
    assert found["fdr"]["different_dropped"] == alone["dropped"] > 0
    assert found["fdr"]["different_scored"] == 40
    done = geofilter(f"{asked} --unscored drop -o b.jsonl")
    said = " ".join(done.out.split())
    assert f"Of the {alone['dropped']} different scored rows dropped, a share of at most" in said
    assert "The 2 rows that were dropped without a score are others." in said
    assert f"{found['dropped']} rows dropped, 2 without a score" in said
    assert "33% of the data's rows and 0% of the reference's repeat another row" in done.err
    asked_curve = "filter more.jsonl --scores more.parquet --curve --reference other.parquet"
    curve = json.loads(geofilter(f"{asked_curve} --json").out)["curve"]
    assert [point["dropped"] for point in curve if point["fdr"] == 0.5] == [0]
    none = " ".join(geofilter(f"{asked.replace('0.7', '0.5')} -o d.jsonl").out.split())
    assert "No row is dropped for its score" in none
    assert "That does not say that all rows are clean" in none
    assert "Of the 0" not in none
    kept = geofilter(f"{asked} -o c.jsonl")
    assert "without a score" not in kept.out
    assert "are others" not in kept.out


def test_a_reference_whose_copies_are_in_the_data_is_warned_of(work, geofilter):
    Path("mixed.jsonl").write_text("".join([*lines("data.jsonl")[:3], *lines("other.jsonl")]))
    asked = "--fdr 0.5 --reference mixed.jsonl"
    done = geofilter(f"{FILTER} {asked} --json")
    assert "warning: 7% of the reference's rows occur in the data too" in done.err
    assert "deduplicate the data, draw the reference from it" in done.err
    (told,) = json.loads(done.out)["fdr"]["warnings"]
    assert told.startswith("7% of the reference's rows occur")


def test_a_reference_too_small_to_single_rows_out_is_warned_of(clean, geofilter):
    done = geofilter(f"{FILTER} --fdr 0.05 --reference other.parquet")
    assert done.code == 0
    assert (
        "warning: the reference is small: with 40 rows no p-value is below 1/41, so that an FDR "
        "of 0.05 drops 20 of the 40 scored rows or more, or none; to drop as little as 1% takes "
        "1,999 rows"
    ) in done.err


def test_a_reference_of_other_lengths_is_warned_of(work, geofilter):
    generator = np.random.default_rng(0)

    def write(path: str, length: int, rows: int) -> None:
        texts = (" ".join(f"w{w}" for w in generator.integers(0, 60, length)) for _ in range(rows))
        made = [json.dumps({"prompt": "w1", "response": text}) + "\n" for text in texts]
        Path(path).write_text("".join(made))

    write("short.jsonl", 4, 200)
    write("long.jsonl", 12, 200)
    write("alike.jsonl", 4, 200)
    assert geofilter(f"score short.jsonl {MADE} -o short.parquet").code == 0
    asked = "filter short.jsonl --scores short.parquet --curve --reference"
    assert "rows differ in length" in geofilter(f"{asked} long.jsonl").err
    assert "does not resemble" not in geofilter(f"{asked} alike.jsonl").err


def test_the_curve_writes_nothing_and_says_what_each_choice_drops(clean, geofilter):
    before = sorted(Path().iterdir())
    done = geofilter(f"{CURVE} --reference other.parquet")
    told = json.loads(geofilter(f"{CURVE} --reference other.parquet --json").out)
    assert sorted(Path().iterdir()) == before
    shown = {line.split("  ")[0]: line.split() for line in done.out.splitlines()}
    for point in told["curve"]:
        kind = "fdr" if point["fdr"] else "drop_fraction"
        name = f"--{kind.replace('_', '-')} {point[kind]:g}"
        assert shown[name][3] == str(point["dropped"])
    assert "for one picked here it is not" in " ".join(done.out.split())
    assert told["reference_rows"] == 40
    for point in told["curve"]:
        if point["fdr"] == 0.5:
            kept = geofilter(f"{FILTER} --fdr 0.5 --reference other.parquet --json")
            assert json.loads(kept.out)["dropped"] == point["dropped"]


def test_the_curve_needs_no_reference(work, geofilter):
    told = json.loads(geofilter(f"{CURVE} --json").out)
    assert told["reference"] is None
    assert {point["drop_fraction"] for point in told["curve"]} >= {0.01, 0.5, 0.7}
    assert "clean among them" not in geofilter(CURVE).out
