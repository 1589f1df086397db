"""The whole page: head, summary, the sections in their order, and the rows.

One script, its own, makes it a place to decide; without script it is a page to read.
"""

from collections.abc import Iterator, Sequence
from importlib.resources import files

import numpy as np

from geofilter.report import cards, limits, sections
from geofilter.report.contents import Contents
from geofilter.report.decide import page_data
from geofilter.report.document import document
from geofilter.report.html import EMPTY, Html, bdi, join, note, percent, section, tag, text
from geofilter.report.origins import origins
from geofilter.report.places import without_folders
from geofilter.report.svg import number
from geofilter.report.topics import against_reference, topics
from geofilter.scoring.explain import explained_by

_HERE = files("geofilter.report").joinpath("script")
SCRIPT = "\n" + "".join(
    _HERE.joinpath(f"{name}.js").read_text("utf-8") for name in ("figures", "threshold", "decide")
)
_SECTIONS = (
    ("scores", "Scores"),
    ("origins", "Origins"),
    ("length", "Length"),
    ("baseline", "Baseline"),
    ("features", "Features"),
    ("topics", "Topics"),
    ("decide", "Decide"),
    ("rows", "Rows"),
    ("limits", "Limits"),
    ("run", "The run"),
)
_OPEN = 3  # rows of each kind that are open where none is explained


def render(contents: Contents) -> Iterator[str]:
    """The page, piece by piece."""
    body = (
        make(contents)
        for make in (
            sections.scores,
            origins,
            sections.length,
            sections.baseline,
            against_reference,
            topics,
            _decide,
            _rows,
            limits.limits,
            limits.run,
        )
    )
    title = join(text(contents.name, 80), " – geofilter report")
    found = page_data(contents)
    yield from document(
        title,
        "scores",
        _top(contents),
        body,
        from_the="data",
        source=None if found is None else SCRIPT,
        data_of_it=found,
    )


def _top(contents: Contents) -> Html:
    absent = set()
    if contents.compared is None:
        absent.add("features")
    if contents.is_baseline:
        absent.add("baseline")
    links = [
        tag("li", tag("a", name, href=f"#{anchor}"))
        for anchor, name in _SECTIONS
        if anchor not in absent
    ]
    warning = EMPTY
    if contents.warning:
        warning = tag(
            "p", tag("strong", "Warning: "), contents.warning, class_="warning", role="note"
        )
    return tag(
        "header",
        tag("p", "geofilter report", class_="kicker"),
        tag("h1", bdi(contents.name, 120)),
        tag("p", _what(contents), class_="what"),
        warning,
        _tiles(contents),
        tag("nav", tag("ul", *links), aria_label="Sections"),
        class_="top",
    )


def _what(contents: Contents) -> Html:
    settings = contents.table.manifest.facts.get("settings")
    model = settings.get("model") if isinstance(settings, dict) else None
    lie = (
        "far its rows lie towards harm in"
        if contents.by_direction
        else "near its rows lie to the toxic features of"
    )
    return join(
        f"How {lie} ",
        bdi(without_folders(model) if isinstance(model, str) else "the model", 80),
        ", by ",
        bdi(contents.scorer, 40),
        ".",
    )


def _tiles(contents: Contents) -> Html:
    columns, choice = contents.columns, contents.choice
    known = columns.scores[columns.scored]
    total, n = len(columns.scores), len(known)
    n_dropped = int(choice.dropped.sum())
    tiles: list[tuple[str, str, str]] = [
        (f"{total:,}", "rows", ""),
        (f"{n:,}", "scored", f"{total - n:,} not" if total - n else "all of them"),
    ]
    if choice.made:
        share = percent(n_dropped / n) if n else "of none"
        tiles.append((f"{n_dropped:,}", cards.WOULD_GO, f"{share} of the scored"))
    if n:
        tiles.append((number(float(np.median(known))), "median score", _spread(contents)))
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", name),
                tag(
                    "dd",
                    tag("b", value, data_live="dropped" if name == cards.WOULD_GO else None),
                    tag("small", note, data_live="share" if name == cards.WOULD_GO else None),
                ),
                class_="accent" if name == cards.WOULD_GO else None,
            )
            for value, name, note in tiles
        ),
        class_="tiles",
    )


def _spread(contents: Contents) -> str:
    known = contents.columns.scores[contents.columns.scored]
    return f"{number(float(known.min()))} to {number(float(known.max()))}"


def _decide(contents: Contents) -> Html:
    """Room for the page's script, and where to decide without it."""
    without = note(
        "With script switched on, rows can be searched and decided on here. Without it: geofilter "
        "filter DATA --scores TABLE --action review --review review.csv writes a list to fill in, "
        "and --drop-rows review.csv takes it."
    )
    return section("decide", "Decide", None, tag("div", without, id="deciding"))


def _rows(contents: Contents) -> Html:
    shown = contents.shown
    first, rest = "Nearest to harm", "Others, picked at random"
    if contents.choice.made:
        first, rest = "Would be dropped, nearest to harm first", "Would be kept, picked at random"
    kinds = (
        (first, None, shown.nearest),
        (
            "Borderline: on either side of the cut",
            "Here the choice is closest; a slightly other cut moves these rows.",
            shown.border,
        ),
        (rest, "What the rest looks like. Read them for what the scores miss.", shown.random),
        ("Without a score", "Never judged, and no threshold drops them.", shown.unscored),
    )
    blocks = [_kind(contents, title, lead, rows) for title, lead, rows in kinds]
    moved = tag(
        "p",
        "The threshold was moved. The headings below are those of the choice that the report was "
        "written with; what each row says of itself is by the threshold.",
        class_="note",
        data_live="moved",
        hidden=True,
    )
    return section("rows", "Rows", None, _how_marked(contents), moved, *blocks)


def _how_marked(contents: Contents) -> Html:
    if contents.explained:
        scale = join(*(tag("mark", "word", class_=f"h{shade}") for shade in range(1, 5)))
        return join(
            tag(
                "p",
                "In the rows that are open the tokens that raised the score are marked: ",
                tag("span", scale, class_="scale"),
                class_="lead",
            ),
            note(
                "The darker, the more the token raised its row's score; the same shade means as "
                "much in every row, with a long row's tokens counted as if the row were short."
            ),
            _divided(contents),
        )
    why = f": {contents.why_no_tokens}" if contents.why_no_tokens else ""
    features = "" if contents.is_dense else " Features are those of the score table."
    return note(f"No tokens are marked{why}.{features}")


def _divided(contents: Contents) -> Html:
    if explained_by(contents.scorer).name == contents.scorer:
        return EMPTY
    return note(
        f"{contents.scorer} is not a sum over tokens; the marks divide the row's nearest score."
    )


def _kind(contents: Contents, title: str, lead: str | None, rows: Sequence[int]) -> Html:
    if not rows:
        return EMPTY
    opened = [row for row in rows if row in contents.explained]
    if not opened and contents.lines[rows[0]].score is not None:
        opened = list(rows[:_OPEN])
    taken = set(opened)
    folded = [cards.folded_card(contents, row) for row in rows if row not in taken]
    more = EMPTY
    if folded:
        count = f"{len(folded):,} more" if opened else f"{len(folded):,} rows"
        more = tag("details", tag("summary", count), *folded, class_="list")
    return tag(
        "div",
        tag("h3", title),
        tag("p", lead, class_="lead") if lead else EMPTY,
        tag("div", *(cards.open_card(contents, row) for row in opened), class_="cards"),
        more,
        class_="kind",
    )
