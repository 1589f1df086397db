"""The commands on a tiny model: what they write, where they speak, and what they keep."""

import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geofilter.cli import score
from geofilter.data import window
from geofilter.model import chosen, loading
from geofilter.packs import default_pack
from geofilter.packs.pack import load_pack
from geofilter.scoring.scorers import SCORERS
from geofilter.settings import PROXIMITIES
from geofilter.support.cache import cache_folder
from helpers.cli_folder import ROWS, write_rows

pytestmark = pytest.mark.slow

TINY = "--model model --sae sae"
SCORED = "--scores data.scores.parquet"


def score_column(path) -> list[float]:
    return pq.read_table(path).column("score").to_pylist()


# models


def test_models_lists_every_entry_for_people_and_for_programs(geofilter):
    shown, listed = geofilter("models"), geofilter("models --json")
    names = [entry["name"] for entry in json.loads(listed.out)]
    assert names == list(loading.CATALOGUE)
    assert all(name in shown.out for name in names)


def test_the_words_of_the_options_are_those_of_the_library():
    offered = {p.name: p.type.choices for p in score.command.params if hasattr(p.type, "choices")}
    assert tuple(offered["scorer"]) == tuple(SCORERS)
    assert tuple(offered["proximity"]) == PROXIMITIES
    assert tuple(offered["dtype"]) == tuple(chosen._DTYPES)


# discover


def test_discover_writes_a_pack_and_prints_figures_of_rows_it_did_not_choose_by(work, geofilter):
    done = geofilter(f"discover --toxic toxic.jsonl --benign benign.jsonl {TINY} -o new.pack")
    assert done.code == 0
    assert Path("new.pack").read_bytes() == Path("my.pack").read_bytes()
    assert "20 toxic and 20 benign rows that had no part in the choice" in done.out
    assert "--model model --sae sae --pack new.pack" in done.out


def test_discover_says_which_rows_it_did_not_use(work, geofilter):
    with Path("toxic.jsonl").open("a") as file:
        file.write('not json\n{"prompt": "w1", "response": ""}\n')
    done = geofilter(
        f"discover --toxic toxic.jsonl --benign benign.jsonl {TINY} -o new.pack --json"
    )
    assert json.loads(done.out)["skipped"]["toxic"] == {"unreadable": 1, "empty": 1}
    assert "toxic.jsonl: rows that were not used: 1 empty, 1 unreadable" in done.err


# score


def test_score_writes_one_line_per_row_beside_the_current_folders_other_files(work, geofilter):
    shutil.move("data.jsonl", "../data.jsonl")
    done = geofilter(f"score ../data.jsonl {TINY} --pack my.pack")
    assert done.code == 0
    assert len(score_column("data.jsonl.scores.parquet")) == ROWS
    assert f"{ROWS} rows, {ROWS} scored → data.jsonl.scores.parquet" in done.out


def test_the_summary_for_programs_is_one_json_object_on_stdout(work, geofilter):
    done = geofilter(f"score data.jsonl {TINY} --pack my.pack -o s.parquet --json")
    summary = json.loads(done.out)
    scores = score_column("s.parquet")
    assert (summary["rows"], summary["scored"]) == (ROWS, ROWS)
    assert summary["quantiles"]["0.0"] == min(scores)
    assert summary["quantiles"]["1.0"] == max(scores)


@pytest.mark.parametrize("scorer", SCORERS)
def test_every_scorer_can_be_asked_for(work, geofilter, scorer):
    done = geofilter(f"score data.jsonl {TINY} --pack my.pack --scorer {scorer} -o s.parquet")
    assert done.code == 0
    assert (score_column("s.parquet") == score_column("data.scores.parquet")) == (
        scorer == "persona"  # the default
    )


def test_the_summary_of_spillover_gives_the_risk_of_the_whole_with_its_interval(work, geofilter):
    asked = f"score data.jsonl {TINY} --pack my.pack --scorer spillover --summary -o s.parquet"
    done = geofilter(f"{asked} --json")
    scores = score_column("s.parquet")
    error = 1.96 * statistics.stdev(scores) / len(scores) ** 0.5
    risk = json.loads(done.out)["risk"]
    mean = statistics.fmean(scores)
    assert risk["mean"] == pytest.approx(mean, abs=1e-7)
    assert (risk["low"], risk["high"]) == pytest.approx((mean - error, mean + error), abs=1e-7)
    assert risk["towards_harm"] == sum(score > 0 for score in scores) / ROWS
    assert f"mean spillover {mean:+.4f} [{mean - error:+.4f}, " in geofilter(asked).out


def test_the_risk_is_refused_for_scores_whose_mean_foretells_nothing(work, geofilter):
    done = geofilter(f"score data.jsonl {TINY} --pack my.pack --summary -o s.parquet")
    assert done.code == 2
    assert "--summary goes with --scorer spillover" in done.err


def test_score_again_takes_the_finished_table_and_restart_makes_it_anew(work, geofilter):
    command = f"score data.jsonl {TINY} --pack my.pack -o data.scores.parquet"
    before = Path("data.scores.parquet").stat().st_ino
    assert geofilter(command).code == 0
    assert Path("data.scores.parquet").stat().st_ino == before
    assert geofilter(command + " --restart").code == 0
    assert Path("data.scores.parquet").stat().st_ino != before


def test_columns_with_other_names_can_be_named(work, geofilter):
    text = Path("data.jsonl").read_text()
    Path("renamed.jsonl").write_text(text.replace('"response"', '"reply"'))
    named = "--column response=reply"
    assert geofilter(f"score renamed.jsonl {TINY} --pack my.pack {named} -o s.parquet").code == 0
    assert score_column("s.parquet") == score_column("data.scores.parquet")
    assert geofilter("explain renamed.jsonl --scores s.parquet --row 3").code == 0


def test_rows_that_cannot_be_scored_are_kept_with_their_reason_when_asked(work, geofilter):
    with Path("data.jsonl").open("a") as file:
        file.write('{"prompt": "w1", "response": ""}\nnot json\n')
    done = geofilter(f"score data.jsonl {TINY} --pack my.pack --on-error keep -o s.parquet")
    assert done.code == 0
    assert score_column("s.parquet")[-2:] == [None, None]
    assert f"1 unscored, empty; the first is row {ROWS + 1} (--row {ROWS}): " in done.out
    assert f"1 unscored, unreadable; the first is row {ROWS + 2} (--row {ROWS + 1}): " in done.out


def test_text_that_the_model_does_not_know_is_warned_of_on_stderr(work, geofilter):
    strange = [{"prompt": "w1", "response": f"some words of no use {n}"} for n in range(30)]
    Path("strange.jsonl").write_text("".join(json.dumps(row) + "\n" for row in strange))
    done = geofilter(f"score strange.jsonl {TINY} --pack my.pack -o s.parquet --json")
    assert "warning: these scores mean little" in done.err
    assert "the model knows no word for" in json.loads(done.out)["warning"]
    # Whoever decides by the table, or looks at a row of it, is told again.
    for command in (
        "filter strange.jsonl --drop-fraction 0.5 -o kept.jsonl",
        "explain strange.jsonl --row 0",
    ):
        assert "warning: these scores mean little" in geofilter(f"{command} --scores s.parquet").err


def test_no_warning_for_text_like_the_contrast_rows(work, geofilter):
    done = geofilter(f"score data.jsonl {TINY} --pack my.pack -o s.parquet")
    assert "warning" not in done.err


@pytest.mark.parametrize(("rows", "said"), [(0, "No row has a score"), (1, "median")])
def test_no_row_and_one_row_are_scored(work, geofilter, rows, said):
    write_rows(Path("few.jsonl"), rows, 0, 60, seed=5)
    done = geofilter(f"score few.jsonl {TINY} --pack my.pack -o s.parquet")
    assert (done.code, said in done.out) == (0, True)
    kept = geofilter("filter few.jsonl --scores s.parquet --drop-fraction 0.5 -o kept.jsonl")
    assert kept.code == 0
    assert Path("kept.jsonl").read_bytes() == Path("few.jsonl").read_bytes()


def test_equal_scores_are_warned_of(work, geofilter):
    line = Path("data.jsonl").read_text().splitlines()[0]
    Path("same.jsonl").write_text(f"{line}\n" * 5)
    done = geofilter(f"score same.jsonl {TINY} --pack my.pack -o s.parquet")
    assert "all scores are equal" in done.err


# the model's own pack


@pytest.fixture
def catalogue(work, monkeypatch):
    """A catalogue whose entry `small` is the tiny model, with its contrast sets."""
    entry = loading.CatalogueEntry(
        name="small",
        model=str(work / "model"),
        sae={1: str(work / "sae")},
        block=1,
        toxic=str(work / "toxic.jsonl"),
        benign=str(work / "benign.jsonl"),
        note="for tests",
    )
    monkeypatch.setitem(loading.CATALOGUE, "small", entry)
    return entry


def never(*_, **__):
    raise AssertionError("a second discovery")


def test_a_catalogue_model_needs_no_pack_and_discovers_its_own_once(
    catalogue, geofilter, monkeypatch
):
    assert geofilter("score data.jsonl --model small -o first.parquet").code == 0
    monkeypatch.setattr(default_pack, "make_pack", never)
    assert geofilter("score other.jsonl --model small -o second.parquet").code == 0
    assert geofilter("explain data.jsonl --scores first.parquet --row 0").code == 0
    assert score_column("first.parquet") == score_column("data.scores.parquet")


def test_other_contrast_sets_make_another_default_pack(catalogue, geofilter):
    assert geofilter("score data.jsonl --model small -o first.parquet").code == 0
    write_rows(Path("toxic.jsonl"), 40, 0, 30, seed=9)
    assert geofilter("score data.jsonl --model small -o second.parquet").code == 0
    assert score_column("first.parquet") != score_column("second.parquet")


def test_pairs_of_a_file_replace_the_sets_of_the_model(catalogue, geofilter):
    words = [f"w{n}" for n in range(60)]
    rows = [
        {"prompt": words[n], "chosen": f" {words[n + 20]} w1 w2", "rejected": f" {words[n]} w50"}
        for n in range(30)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score = "score data.jsonl --model small --scorer persona"
    assert geofilter(f"{score} -o first.parquet").code == 0
    assert geofilter(f"{score} --contrast pairs.jsonl -o second.parquet").code == 0
    assert score_column("first.parquet") != score_column("second.parquet")
    assert geofilter("explain data.jsonl --scores second.parquet --row 0").code == 0
    packs = [load_pack(path) for path in (cache_folder() / "packs").iterdir()]
    assert sorted(pack.provenance["paired"] for pack in packs) == [False, True]
    done = geofilter("discover --contrast pairs.jsonl --model small -o own.pack --json")
    assert (done.code, "30 rows read as chosen-rejected" in done.err) == (0, True)
    found = json.loads(done.out)
    assert {"length", "words", "warning"} == found["plain"].keys()
    assert 0 <= found["pairs_in_order"] <= 1


def test_another_size_of_the_pack_makes_another_default_pack(catalogue, geofilter, monkeypatch):
    assert geofilter("score data.jsonl --model small -o first.parquet").code == 0
    monkeypatch.setitem(loading.CATALOGUE, "small", replace(catalogue, top_k=3))
    assert geofilter("score data.jsonl --model small -o second.parquet").code == 0
    packs = (cache_folder() / "packs").iterdir()
    assert sorted(len(load_pack(path)) for path in packs)[0] == 3


def test_a_damaged_cached_pack_is_made_anew(catalogue, geofilter):
    assert geofilter("score data.jsonl --model small -o first.parquet").code == 0
    (cached,) = (cache_folder() / "packs").iterdir()
    whole = cached.read_bytes()
    cached.write_bytes(whole[:100])
    assert geofilter("score data.jsonl --model small -o second.parquet").code == 0
    assert cached.read_bytes() == whole


def test_a_cache_that_cannot_be_written_does_not_stop_the_work(catalogue, geofilter, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("data.jsonl").absolute()))
    assert geofilter("score data.jsonl --model small -o first.parquet").code == 0


def test_a_bad_row_stops_before_the_pack_is_discovered(catalogue, geofilter, monkeypatch):
    monkeypatch.setattr(default_pack, "make_pack", never)
    with Path("data.jsonl").open("a") as file:
        file.write('{"prompt": "w1", "response": " "}\n')
    done = geofilter("score data.jsonl --model small -o first.parquet")
    assert (done.code, f"data.jsonl:{ROWS + 1}: empty" in done.err) == (2, True)


def test_the_window_is_what_the_model_can_take_at_most(scored_folder):
    model = loading.load(str(scored_folder / "model"), sae=str(scored_folder / "sae"))
    assert window.window_length(model) == model.max_context
    assert window.window_length(replace(model, max_context=10**6)) == window.WINDOW


# filter


def test_kept_and_dropped_rows_are_all_rows_and_kept_ones_keep_their_bytes(work, geofilter):
    done = geofilter(
        f"filter data.jsonl {SCORED} --drop-fraction 0.25 -o kept.jsonl --dropped d.jsonl --json"
    )
    lines = Path("data.jsonl").read_bytes().splitlines(keepends=True)
    table = pq.read_table("data.scores.parquet").to_pylist()
    n_dropped = ROWS // 4
    expected = [line for line, row in zip(lines, table, strict=True) if row["rank"] > n_dropped]
    assert Path("kept.jsonl").read_bytes() == b"".join(expected)
    notes = [json.loads(line)["geofilter"] for line in Path("d.jsonl").read_text().splitlines()]
    wanted = [row for row in table if row["rank"] <= n_dropped]
    assert [note["rank"] for note in notes] == [row["rank"] for row in wanted]
    assert [note["score"] for note in notes] == [row["score"] for row in wanted]
    summary = json.loads(done.out)
    assert (summary["kept"], summary["dropped"]) == (ROWS - n_dropped, n_dropped)


def test_a_threshold_drops_the_scores_from_there_up(work, geofilter):
    scores = score_column("data.scores.parquet")
    cut = sorted(scores)[10]
    done = geofilter(f"filter data.jsonl {SCORED} --threshold {cut!r} -o kept.jsonl")
    assert done.code == 0
    assert len(Path("kept.jsonl").read_text().splitlines()) == 10


@pytest.mark.parametrize(("unscored", "kept"), [("keep", 1), ("drop", 0)])
def test_unscored_rows_are_kept_unless_it_is_said(work, geofilter, unscored, kept):
    with Path("data.jsonl").open("a") as file:
        file.write("not json\n")
    geofilter(f"score data.jsonl {TINY} --pack my.pack --on-error keep -o s.parquet")
    done = geofilter(
        "filter data.jsonl --scores s.parquet --drop-fraction 0 -o kept.jsonl "
        f"--dropped dropped.jsonl --unscored {unscored}"
    )
    assert done.code == 0
    assert Path("kept.jsonl").read_text().count("not json") == kept
    assert ("have no score" in done.err) == bool(kept)


# what reaches the terminal


def test_no_command_lets_a_hostile_name_reach_the_terminal(work, geofilter):
    name = "da\x1b[2Jta\u202e.jsonl"
    shutil.copy("data.jsonl", name)
    tiny = TINY.split()
    shown = [
        geofilter("score", name, *tiny, "--pack", "my.pack"),
        geofilter(
            *("filter", name, "--scores", f"{name}.scores.parquet", "--drop-fraction", "0.5"),
            *("-o", f"kept-{name}", "--dropped", f"dropped-{name}"),
        ),
        geofilter("explain", name, "--scores", f"{name}.scores.parquet", "--row", "5"),
        geofilter("filter", name, "--scores", f"{name}.scores.parquet", "--threshold", "0"),
        geofilter("score", f"no-{name}", *tiny),
        geofilter("score", name, "--model", name),
        geofilter("score", name, *tiny, "--pack", name, "-o", f"x{name}"),
    ]
    assert [done.code for done in shown] == [0, 0, 0, 2, 2, 2, 2]
    assert not [done for done in shown if {"\x1b", "\u202e"} & set(done.out + done.err)]
