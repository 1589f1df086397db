"""The report in a real browser: nothing of a row runs, nothing is asked for, all can be read."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from geofilter.report.contents import gather
from geofilter.report.write import write
from geofilter.scoring.explanation import ExplainedToken, Explanation, TokenLatent
from geofilter.selection.choose import drop_fraction
from helpers.chromium import PROGRAM, Page, chromium
from helpers.report_payloads import HERE, PAYLOADS
from helpers.report_tables import score_by_hand, write_jsonl

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[Page]:
    with chromium(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def hostile(folder: Path) -> Path:
    """A report in which every place that shows data holds every payload once at least."""
    n = len(PAYLOADS)
    records = [
        {
            "prompt": PAYLOADS[row % n],
            "response": f"{PAYLOADS[row % n]} {'word ' * (row % 9)}",
            "source": PAYLOADS[(row // 3) % n],
            PAYLOADS[0]: PAYLOADS[row % n],
        }
        for row in range(2 * n)
    ]
    data = write_jsonl(folder / "<svg onload=document.title=1>.jsonl", records)
    scores = [None if row % 10 == 0 else (row * 37 % 101) / 101 for row in range(2 * n)]
    rows, table = score_by_hand(data, scores, folder / "s.parquet", reason=PAYLOADS[4])
    _, other = score_by_hand(
        data, [s and 1 - s for s in scores], folder / "p.parquet", scorer=PAYLOADS[2]
    )
    contents = gather(
        rows,
        table,
        chosen=drop_fraction(table.scores, 0.3),
        by=("source", PAYLOADS[0]),
        baseline=other,
        why_no_tokens=PAYLOADS[5],
    )
    assert set(contents.read.texts) == set(range(2 * n))
    # Of each row 20 tokens are named as what activated a feature: five for each of four.
    named = [range(start, start + 20) for start in range(0, n, 20)]
    nearest = contents.shown.nearest[: len(named)]
    assert len(nearest) == len(named)
    contents = replace(
        contents,
        explained=dict(zip(nearest, map(explanation, named), strict=True)),
        labels={7: PAYLOADS},
        warning=PAYLOADS[6],
        promise=PAYLOADS[7],
    )
    write(contents, folder / "hostile.html")
    return folder / "hostile.html"


def explanation(named: Collection[int]) -> Explanation:
    """Every payload is a token; those at `named` activated features that have payloads' words."""
    return Explanation(
        1.0,
        tuple(
            ExplainedToken(
                place + place // 5,
                payload,
                place / len(PAYLOADS),
                (TokenLatent(1, 1.0, 0.5, place % 4, 0.5, PAYLOADS[place % 4 :: 4], 0.5),)
                if place in named
                else (),
            )
            for place, payload in enumerate(PAYLOADS)
        ),
    )


def forget(page: Page) -> None:
    page.requests.clear()
    page.problems.clear()
    page.dialogs.clear()


def test_this_browser_would_tell(page: Page, folder: Path) -> None:
    # What the other tests look for is seen where a page does it.
    bad = folder / "bad.html"
    bad.write_text(
        f"<title>bad</title><body><script>document.title='ran';window.ran=1;fetch('{HERE}/1')"
        f"</script><img src='{HERE}/2.png'><div style='width:3000px'>wide</div>"
        "<script>throw Error('thrown')</script>"
    )
    forget(page)
    page.open(bad, width=360)
    assert page.value("document.title") == "ran"
    assert {f"{HERE}/1", f"{HERE}/2.png"} <= set(page.requests)
    assert page.problems
    assert page.value("document.documentElement.scrollWidth") > 360


def test_no_payload_of_a_row_runs_asks_for_anything_or_makes_an_error(
    page: Page, hostile: Path
) -> None:
    assert len(PAYLOADS) >= 40
    forget(page)
    page.open(hostile)
    # Everything folded is opened, and everything that could take the focus gets it.
    page.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.value("document.querySelectorAll('*').forEach(e => e.focus && e.focus())")
    page.value("new Promise(done => setTimeout(done, 300))")
    assert page.value("window.ran") is None
    assert page.value("document.title").endswith("geofilter report")
    assert page.requests == [hostile.resolve().as_uri()]
    assert (page.problems, page.dialogs) == ([], [])
    strange = "script,img,iframe,object,embed,link:not([rel=icon]),base,form,input,video,audio,math"
    assert page.value(f"document.querySelectorAll('{strange}').length") == 0
    # They are there to be read: as many times as a row shows them.
    shown = page.value("document.body.innerText")
    assert shown.count("<script>document.title='ran 0'") >= 2
    assert page.value("document.querySelectorAll('style').length") == 1


def test_nothing_in_the_page_has_a_handler_or_an_address(page: Page, hostile: Path) -> None:
    page.open(hostile)
    found = page.value(
        "[...document.body.querySelectorAll('*')].flatMap(e => [...e.attributes])"
        ".filter(a => /^on|src|action|data$|xlink/.test(a.name)"
        " || (a.name == 'href' && !a.value.startsWith('#'))).map(a => a.name + '=' + a.value)"
    )
    assert found == []


@pytest.mark.parametrize("width", [320, 360, 390, 1280])
def test_the_page_itself_never_scrolls_sideways(page: Page, hostile: Path, width: int) -> None:
    page.open(hostile, width=width)
    page.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.value("document.documentElement.scrollWidth") <= width


def test_the_dark_and_the_light_page_can_both_be_read(page: Page, hostile: Path) -> None:
    # Contrast by WCAG 2: 4.5 for text. What the accent draws needs 3.
    ratio = """
    (() => {
      const lum = c => {
        const [r, g, b] = c.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
          .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const contrast = (a, b) => {
        const [x, y] = [lum(a), lum(b)].sort((m, n) => n - m);
        return (x + 0.05) / (y + 0.05);
      };
      const style = getComputedStyle(document.documentElement);
      const probe = document.createElement('i');
      document.body.append(probe);
      const colour = name => {
        probe.style.color = `var(--${name})`;
        return getComputedStyle(probe).color;
      };
      const text = ['ink', 'soft', 'accent-ink'].flatMap(
        t => ['paper', 'card', 'wash'].map(b => contrast(colour(t), colour(b))));
      const marks = [1, 2, 3, 4].map(n => contrast(colour('ink'), colour('shade' + n)));
      const drawn = [contrast(colour('accent'), colour('paper'))];
      return [Math.min(...text), Math.min(...marks), Math.min(...drawn), colour('paper')];
    })()
    """
    papers = []
    for dark in (False, True):
        page.open(hostile, dark=dark)
        text, marks, drawn, paper = page.value(ratio)
        assert text >= 4.5
        assert marks >= 4.5
        assert drawn >= 3
        papers.append(paper)
    assert papers[0] != papers[1]


def test_the_keyboard_reaches_the_skip_link_the_sections_and_the_folded_rows(
    page: Page, hostile: Path
) -> None:
    page.open(hostile)
    reached = []
    for _ in range(60):
        page.press("Tab", 9)
        reached.append(
            page.value(
                "(e => [e.tagName, e.className, getComputedStyle(e).outlineStyle])"
                "(document.activeElement)"
            )
        )
    assert reached[0][:2] == ["A", "skip"]
    # Past the last one the browser's own bar has the focus, and the page none.
    assert {tag for tag, _, outline in reached if outline == "none"} <= {"BODY"}
    assert [tag for tag, _, _ in reached[1:8]] == ["A"] * 7
    assert "SUMMARY" in {tag for tag, _, _ in reached}
    page.value("document.querySelector('details.list > summary').focus()")
    page.press("Enter", 13, "\r")
    assert page.value("document.querySelector('details.list').open") is True


def test_every_figure_and_table_says_what_it_is(page: Page, hostile: Path) -> None:
    page.open(hostile)
    assert page.value("[...document.querySelectorAll('svg')].every(s => s.ariaLabel)")
    assert page.value("[...document.querySelectorAll('table')].every(t => t.caption)")
    assert page.value(
        "[...document.querySelectorAll('section[id]')].every(s => s.ariaLabel"
        " || document.getElementById(s.getAttribute('aria-labelledby')))"
    )
    assert page.value("document.querySelectorAll('main').length") == 1
