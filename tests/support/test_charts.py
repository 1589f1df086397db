"""Figures: the same bytes for the same data, and text from data that cannot act."""

import sys
import xml.etree.ElementTree as ET
from itertools import pairwise

import matplotlib
import numpy as np
import pytest

from geofilter.errors import MissingExtraError, OutputError
from geofilter.support import charts

pytestmark = pytest.mark.slow

HOSTILE = "$\\frac{a}{b}$ <b>&amp;\x1b[2J \u202e$x$"


def panel(title="health", groups=("inducing", "other")):
    rng = np.random.default_rng(1)
    places = {str(block): {group: rng.normal(size=20) for group in groups} for block in range(3)}
    return charts.Panel(title, "block", "cosine", places)


def saved(folder, panels, title="closeness"):
    folder.mkdir()
    files = charts.save(folder / "figure", charts.distributions(panels, title=title))
    return {file.name: file.read_bytes() for file in files}


def texts(svg: bytes) -> list[str]:
    return [
        "".join(one.itertext()) for one in ET.fromstring(svg).iter() if one.tag.endswith("}text")
    ]


def test_equal_data_give_equal_bytes_whatever_the_readers_own_settings(tmp_path):
    first = saved(tmp_path / "a", [panel()])
    assert set(first) == {"figure.png", "figure.svg"}
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": None, "axes.grid": False}):
        assert saved(tmp_path / "b", [panel()]) == first
        assert matplotlib.rcParams["font.size"] == 30


def test_other_data_give_other_bytes(tmp_path):
    first, second = (saved(tmp_path / t, [panel(t)]) for t in ("a", "b"))
    assert first["figure.svg"] != second["figure.svg"]
    assert first["figure.png"] != second["figure.png"]


def test_an_svg_holds_its_text_as_text_and_no_date(tmp_path):
    svg = saved(tmp_path / "a", [panel("legal advice")])["figure.svg"]
    assert {"legal advice", "block", "cosine", "inducing", "other", "closeness"} <= set(texts(svg))
    assert b"dc:date" not in svg


def test_hostile_text_is_shown_letter_by_letter_and_does_nothing(tmp_path):
    one = panel(HOSTILE, groups=(HOSTILE, "other"))
    svg = saved(tmp_path / "a", [one], title=HOSTILE)["figure.svg"]
    shown = "$\\frac{a}{b}$ <b>&amp;\\x1b[2J \\u202e$x$"
    assert texts(svg).count(shown) == 3
    assert b"\x1b" not in svg
    assert "\u202e".encode() not in svg


def test_letters_that_the_font_lacks_give_no_warning(tmp_path, recwarn):
    saved(tmp_path / "a", [panel("健康 \U0001f600")])
    assert [str(one.message) for one in recwarn if "Glyph" in str(one.message)] == []


def test_panels_that_are_not_drawn_are_counted(tmp_path):
    svg = saved(tmp_path / "a", [panel(f"domain {n}") for n in range(14)])["figure.svg"]
    assert "closeness (12 of 14 panels)" in texts(svg)
    assert "domain 12" not in texts(svg)


def test_a_place_without_values_of_a_group_is_left_empty(tmp_path):
    one = panel()
    one.places["1"].pop("other")
    assert saved(tmp_path / "a", [one])["figure.svg"]


def test_neighbouring_colours_differ_in_grey():
    def lightness(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminance = np.dot(linear, (0.2126, 0.7152, 0.0722))
        return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance

    steps = [abs(lightness(a) - lightness(b)) for a, b in pairwise(charts.COLOURS)]
    assert min(steps) > 15
    assert len(set(charts.MARKS)) == len(charts.MARKS) == len(charts.COLOURS)


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'geofilter\[report\]'"):
        saved(tmp_path / "a", [panel()])


def test_an_existing_figure_is_not_replaced(tmp_path):
    saved(tmp_path / "a", [panel()])
    with pytest.raises(OutputError, match="exists already"):
        charts.save(tmp_path / "a" / "figure", charts.distributions([panel()], title="again"))
