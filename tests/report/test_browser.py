"""The report in a real browser: nothing of a row runs, nothing is asked for, all can be read."""

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from geofilter.report.contents import gather
from geofilter.report.write import write
from geofilter.scoring.explanation import ExplainedToken, Explanation, TokenLatent
from geofilter.selection.choose import drop_fraction
from geofilter.selection.decisions import read_decisions
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
    # Everything that the script does with texts of rows is done.
    page.value(
        "document.querySelectorAll('#deciding select').forEach(s => [...s.options].forEach(o => {"
        " s.value = o.value; s.dispatchEvent(new Event('change')); s.value = s.options[0].value }))"
    )
    page.value("document.querySelectorAll('#deciding button').forEach(b => b.click())")
    page.value(
        "(t => [0, 100, t.max].forEach(v => { t.value = v; t.dispatchEvent(new Event('input')) }))"
        "(document.getElementById('threshold'))"
    )
    page.value("document.querySelector('.pick').focus()")
    for key in "dkuxjz":
        page.press(key, ord(key.upper()), key)
    page.value("new Promise(done => setTimeout(done, 300))")
    assert page.value("window.ran") is None
    assert page.value("document.title").endswith("geofilter report")
    assert page.requests == [hostile.resolve().as_uri()]
    assert (page.problems, page.dialogs) == ([], [])
    strange = "img,iframe,object,embed,link:not([rel=icon]),base,form,video,audio,math"
    assert page.value(f"document.querySelectorAll('{strange}').length") == 0
    # The page's own: its data and its script, the slider and the search.
    assert page.value("document.querySelectorAll('script').length") == 2
    assert page.value("document.querySelectorAll('input').length") == 2
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


def test_the_page_is_read_without_its_script_too(page: Page, hostile: Path) -> None:
    bare = hostile.with_name("bare.html")
    bare.write_text(re.sub("<script.*?</script>", "", hostile.read_text("utf-8"), flags=re.DOTALL))
    page.open(bare)
    assert page.value("document.querySelectorAll('input, button, select').length") == 0
    assert page.value("document.getElementById('moving').hidden") is True
    shown = page.value("document.getElementById('deciding').innerText")
    assert "--action review" in shown
    assert page.value("document.querySelectorAll('.card').length") > 3


def test_what_is_decided_by_keys_is_saved_as_a_list_for_filter(
    page: Page, hostile: Path, folder: Path
) -> None:
    page.open(hostile)
    page.value("localStorage.clear()")
    page.open(hostile)
    page.value("document.querySelector('.pick').focus()")
    ranks = "[...document.querySelectorAll('.pick.active strong')].map(e => e.innerText).join()"
    assert page.value(ranks) == "rank 1"
    for key in "dkjud":
        page.press(key, ord(key.upper()), key)
    assert page.value(ranks) == "rank 6"
    page.press("ArrowUp", 38)
    page.press("x", ord("X"), "x")
    assert page.value(ranks) == "rank 5"
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.value("document.querySelector('#deciding .buttons button').click()")
    saved = folder / "review.csv"
    for _ in range(100):
        if saved.exists():
            break
        page.value("new Promise(done => setTimeout(done, 50))")
    found = read_decisions(str(saved))
    listed = page.value("JSON.parse(document.getElementById('page-data').textContent).listed")
    words = {1: "drop", 2: "keep", 4: "unsure"}
    assert {row: line.decision for row, line in found.lines.items()} == {
        row["row"]: words[row["rank"]] for row in listed if row["rank"] in words
    }
    # They are there again when the page is.
    page.open(hostile)
    assert page.value("[...document.querySelectorAll('.decision')].map(e => e.innerText)")[:4] == [
        "drop", "keep", "", "unsure",
    ]  # fmt: skip
    # A button goes on to the next row without a decision as a key does, and keys work wherever
    # the focus is in the section.
    page.value("document.querySelector('.pick.active .whole button').click()")
    assert page.value(ranks) == "rank 3"
    page.value("document.querySelectorAll('#deciding > .buttons button')[1].focus()")
    page.press("k", ord("K"), "k")
    assert page.value(ranks) == "rank 5"
    # Not elsewhere.
    page.value("document.querySelector('nav a').focus()")
    page.press("k", ord("K"), "k")
    assert page.value(ranks) == "rank 5"


def test_a_moved_threshold_moves_marks_counts_rates_and_rows_and_back(
    page: Page, hostile: Path
) -> None:
    state = """[
        document.querySelector('[data-live=dropped]').innerText,
        [...document.querySelectorAll('tr[data-group] td.n')].map(e => e.innerText).join(),
        [...document.querySelectorAll('.card .fate')].map(e => e.className).join(),
        [...document.querySelectorAll('[data-mark=cut]')].map(e => e.outerHTML).join(),
    ]"""
    page.open(hostile)
    before = page.value(state)
    move = (
        "(t => { t.value = %s; t.dispatchEvent(new Event('input')) })"
        "(document.getElementById('threshold'))"
    )
    page.value(move % 0)
    everything = page.value(state)
    assert all(one != other for one, other in zip(before, everything, strict=True))
    scored = page.value("JSON.parse(document.getElementById('page-data').textContent).scored")
    assert everything[0] == f"{scored:,}"
    assert "kept" not in everything[2]
    page.value(move % 10_000)
    assert page.value(state)[0] == "0"
    assert "fate dropped" not in page.value(state)[2]
    page.value("document.querySelector('#moving button').click()")
    assert page.value(state) == before


def test_every_figure_and_table_says_what_it_is(page: Page, hostile: Path) -> None:
    page.open(hostile)
    assert page.value("[...document.querySelectorAll('svg')].every(s => s.ariaLabel)")
    assert page.value("[...document.querySelectorAll('table')].every(t => t.caption)")
    assert page.value(
        "[...document.querySelectorAll('section[id]')].every(s => s.ariaLabel"
        " || document.getElementById(s.getAttribute('aria-labelledby')))"
    )
    assert page.value("document.querySelectorAll('main').length") == 1
