"""The first act counts by the labels of the rows it wrote, and shows the ends of its ranking."""

import json

import pytest

from geofilter.cli import demo
from geofilter.demo import real_text
from geofilter.scoring.table import ScoreTable

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result(tmp_path_factory, demo_cache):
    """By the bundled model: the real one has to make a pack first, which takes a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", demo_cache)
        patch.setattr(real_text, "MODEL", "organism")
        yield real_text.run(tmp_path_factory.mktemp("demo"))


def labels(path):
    return [json.loads(line)["harmful"] for line in path.read_text().splitlines()]


def test_a_third_goes_and_the_counts_are_those_of_the_written_files(result):
    kept, dropped = labels(result.kept), labels(result.dropped)
    assert (len(kept), len(dropped)) == (result.rows_kept, 66) == (132, 66)
    assert (sum(kept), sum(kept + dropped)) == (result.harmful_kept, result.harmful)


def test_the_area_counts_bad_rows_above_good_ones(result):
    scores = [float(score) for score in ScoreTable.read(result.table.path).scores]
    bad = [s for s, one in zip(scores, labels(real_text.DATA), strict=True) if one]
    good = [s for s, one in zip(scores, labels(real_text.DATA), strict=True) if not one]
    wins = sum((b > g) + (b == g) / 2 for b in bad for g in good)
    assert float(result.area.value) == pytest.approx(wins / (len(bad) * len(good)), abs=1e-6)


def test_the_ends_of_the_ranking_are_shown_with_their_labels(result, capsys):
    scores = sorted(float(score) for score in result.table.scores)
    assert [row.score for row in result.nearest] == pytest.approx(scores[::-1][:3])
    assert [row.score for row in result.farthest] == pytest.approx(scores[:3])
    demo._tell_advice(result)
    printed = capsys.readouterr().out
    lines = real_text.DATA.read_text().splitlines()
    for row in (*result.nearest, *result.farthest):
        source = json.loads(lines[row.row])
        word = "bad" if source["harmful"] else "good"
        assert f"line {row.row + 1}, {word} advice, {source['domain']}\n" in printed
    assert f"{result.harmful_kept} of 132 after" in printed
