"""`geofilter geometry`: one JSON, two plots and a table, and nothing in them that can act."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from geofilter.errors import GeofilterError
from geofilter.model.catalogue import CATALOGUE, CatalogueEntry
from geofilter.settings import PROXIMITIES, Settings
from geofilter.studies import geometry
from geofilter.studies.closeness import Closeness, Comparison, Study
from helpers.cli_folder import write_rows
from helpers.tiny_models import save_sae

pytestmark = pytest.mark.slow

HOSTILE = "$x^2$\x1b[2J<b>\u202e"
TINY_RUN = "geometry --inducing data.jsonl --benign other.jsonl --model model --sae sae --top-k 60"
COMPARED = {"block", "domain", "rows", "features", "shared", "unconfirmed", *PROXIMITIES}
FORM = {"inducing", "other", "effect_size", "effect_interval", "p", "p_holm", "proximity"}


@pytest.fixture
def tiny_entry(work, monkeypatch):
    """The tiny model in the catalogue, with SAEs for three blocks and contrast sets."""
    for block in range(3):
        save_sae(work / f"sae-{block}", block=block)
    entry = CatalogueEntry(
        name="tiny",
        model=str(work / "model"),
        sae={block: str(work / f"sae-{block}") for block in range(3)},
        block=1,
        toxic=str(work / "toxic.jsonl"),
        benign=str(work / "benign.jsonl"),
        note="",
        top_k=12,
    )
    monkeypatch.setitem(CATALOGUE, "tiny", entry)


@pytest.fixture
def two_domains(work):
    """inducing.jsonl and plain.jsonl, each with rows of `law` and of a hostile domain."""
    for name, first, last, seed in (("inducing", 0, 40, 5), ("plain", 20, 60, 6)):
        write_rows(work / "rows.jsonl", 100, first, last, seed)
        lines = [json.loads(line) for line in (work / "rows.jsonl").read_text().splitlines()]
        for place, one in enumerate(lines):
            one["domain"] = HOSTILE if place % 2 else "law"
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (work / f"{name}.jsonl").write_text(text)


def run(geofilter, output: str, *more: str):
    return geofilter(
        *("geometry", "--inducing", "inducing.jsonl", "--benign", "plain.jsonl", "--model", "tiny"),
        *("--by", "domain", "--top-k", "40", "--permutations", "300", "-o", output, *more),
    )


def check_comparison(one: dict) -> None:
    """What a reader of geometry.json may rely on."""
    assert one.keys() == COMPARED
    for form in PROXIMITIES:
        assert one[form].keys() == FORM
        low, high = one[form]["effect_interval"]
        assert low < one[form]["effect_size"] < high
        assert 0 < one[form]["p"] <= one[form]["p_holm"] <= 1
        for side, ids in one["features"].items():
            values = one[form]["proximity"][side]
            assert len(values) == len(ids) >= 2
            assert all(-1 <= value <= 1 for value in values)
            assert np.mean(values) == pytest.approx(one[form][side], abs=1e-5)


def test_a_run_writes_one_json_and_two_plots_the_same_every_time(
    geofilter, tiny_entry, two_domains
):
    done, again = run(geofilter, "first", "--json"), run(geofilter, "again", "--json")
    assert (done.code, again.code) == (0, 0), done.err
    files = {file.name for file in Path("first").iterdir()}
    assert files == {"geometry.json", "geometry.png", "geometry.svg"}
    for name in files:
        assert Path("first", name).read_bytes() == Path("again", name).read_bytes()
    written = json.loads(Path("first/geometry.json").read_text())
    assert json.loads(done.out) == written
    places = [(one["block"], one["domain"]) for one in written["comparisons"]]
    assert places == [(block, domain) for block in range(3) for domain in ("law", HOSTILE)]
    for one in written["comparisons"]:
        check_comparison(one)
    for trend in written["block_trend"].values():
        assert trend.keys() == {"rho", "p_falling", "p_rising", "smallest_p"}
        assert trend["smallest_p"] == 1 / 6
    assert (written["left_out"], written["without_domain"]) == ([], {"inducing": 0, "benign": 0})


def test_values_of_a_column_cannot_act_in_table_or_plot(geofilter, tiny_entry, two_domains):
    done = run(geofilter, "out")
    assert done.code == 0, done.err
    assert "$x^2$\\x1b[2J<b>\\u202e" in done.out
    assert not {"\x1b", "\u202e"} & set(done.out + done.err)
    assert "rank correlation of block and effect size" in done.out
    assert "safe" not in (done.out + done.err).lower()
    verdict = json.loads(Path("out/geometry.json").read_text())["verdict"]
    assert done.out.splitlines()[-1] == f"Verdict: {verdict}."
    assert f"of {3 * 2 * len(PROXIMITIES)} tests" in verdict
    svg = Path("out/geometry.svg").read_text()
    assert "$x^2$\\x1b[2J&lt;b&gt;\\u202e" in svg


def test_without_matplotlib_the_json_is_written_and_the_error_says_what_to_install(
    geofilter, work, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = geofilter(f"{TINY_RUN} --pack my.pack -o out")
    assert done.code == 2
    assert "pip install 'geofilter[report]'" in done.err
    assert [file.name for file in Path("out").iterdir()] == ["geometry.json"]
    assert "Written: out" in done.out


TINY_RUN = "geometry --inducing data.jsonl --benign other.jsonl --model model --sae sae --top-k 60"


def test_toxic_rows_or_a_pack_give_the_toxic_features(geofilter, work):
    summaries = {}
    chosen = "--toxic toxic.jsonl --benign other.jsonl --model model --sae sae"
    assert geofilter(f"discover {chosen} -o others.pack").code == 0
    for name, given, same in (
        ("pack", "--pack my.pack", False),
        ("rows", "--toxic toxic.jsonl", True),
        ("pack of the rows", "--pack others.pack", True),
    ):
        done = geofilter(f"{TINY_RUN} {given} -o out-{len(summaries)} --permutations 50 --json")
        assert done.code == 0, done.err
        summaries[name] = json.loads(done.out)["comparisons"]
        assert ("same benign rows" in done.err) == same
    assert summaries["pack"] != summaries["rows"]


def test_every_block_of_the_catalogue_is_compared_unless_some_are_named(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "geofilter.model.loading.load", lambda *_, **how: asked.append(how["block"])
    )
    for blocks in (None, (0, 2)):
        settings = Settings("organism", device="cpu")
        _, found = geometry.load(settings, geometry.blocks_of(settings, blocks, None))
        assert found == (blocks or tuple(CATALOGUE["organism"].sae))
    assert asked == [3, 2]


def test_rows_that_the_model_has_no_words_for_are_warned_of(geofilter, work):
    assert "mean little" not in geofilter(f"{TINY_RUN} --pack my.pack -o known").err
    for name in ("data.jsonl", "other.jsonl"):
        rows = [json.loads(line) for line in Path(name).read_text().splitlines()]
        for number, row in enumerate(rows):
            row["response"] += f" strange{number}" * 50
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("known/old").touch()
    assert "--overwrite" in geofilter(f"{TINY_RUN} --pack my.pack -o known").err
    done = geofilter(f"{TINY_RUN} --pack my.pack -o known --overwrite")
    assert sorted(file.name for file in Path("known").iterdir())[0] == "geometry.json"
    assert not Path("known/old").exists()
    assert "warning: these figures mean little: the model knows no word for" in done.err


def a_study(*tests):
    """One block a pair of (corrected p, effect), the upper end of its interval 0.2 above."""
    found = []
    for block, (p, effect) in enumerate(tests):
        one = Closeness(np.zeros(2), np.zeros(2), effect, effect - 0.2, effect + 0.2, p, p)
        found.append(Comparison(block, None, {}, {}, {}, {}, dict.fromkeys(PROXIMITIES, one)))
    return Study(tuple(found), (), {})


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ([(0.01, 0.9), (0.3, 0.1)], "inducing features lie nearer to toxic ones in 2 of 4 tests"),
        ([(0.06, 0.5)], "in none of 2 tests do inducing features lie nearer to toxic ones"),
        ([(1.0, -0.9), (1.0, -0.1)], "; in 2 they lie farther, by an interval below 0"),
    ],
)
def test_the_verdict_counts_what_the_corrected_tests_show(tests, said):
    assert said in geometry.verdict(a_study(*tests))
    assert f"smallest corrected p is {min(p for p, _ in tests):.2g})" in geometry.verdict(
        a_study(*tests)
    )


def test_exchanges_that_no_test_could_pass_are_refused_and_those_named_would_do():
    for top_k, permutations, tests in ((100, 50, 8), (2, 20_000, 2), (3, 20_000, 2)):
        with pytest.raises(GeofilterError, match="nothing could be said") as refused:
            geometry.refuse_few_exchanges(top_k, permutations, tests)
        *_, option, number, _, _ = str(refused.value).split()
        if option == "--permutations":
            permutations = int(number)
        else:
            top_k = int(number)
        geometry.refuse_few_exchanges(top_k, permutations, tests)


def test_a_dense_pack_is_refused_before_the_model_is_loaded(work, geofilter, monkeypatch):
    class Dense:
        is_dense = True

    monkeypatch.setattr(geometry, "load_pack", lambda _: Dense())
    monkeypatch.setattr(geometry, "load", None)
    done = geofilter(f"{TINY_RUN} --pack my.pack -o out")
    assert done.code == 2
    assert "my.pack: holds the dense direction alone" in done.err
