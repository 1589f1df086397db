"""What the rows that would go are about, and what sets this data apart from a reference."""

from collections import Counter
from collections.abc import Sequence

from geofilter.report.cards import folded_card, snippet, words
from geofilter.report.clusters import FEWEST
from geofilter.report.contents import Contents, Topic
from geofilter.report.differences import FeatureDifference
from geofilter.report.html import (
    EMPTY,
    Html,
    bdi,
    join,
    note,
    percent,
    section,
    table,
    tag,
)

_EXAMPLES = 3
_FEATURES = 3
_APART = 0.1  # a share of rows by which a feature sets a topic apart


def topics(contents: Contents) -> Html:
    """The topics of the rows that would go, with examples."""
    would_go = contents.choice.made
    title = "What would go, by topic" if would_go else "What the nearest rows are about"
    rows = contents.set_apart
    if not contents.topics:
        why = f"fewer than {FEWEST} rows" if len(rows) < FEWEST else "rows that share few words"
        return section("topics", title, f"These are {why}; read them.")
    n = int(contents.choice.dropped.sum())
    few = f"Of the {n:,} rows the {len(rows):,} nearest to harm" if len(rows) < n else "The rows"
    lead = (
        f"{few}, put together by the words that they share. A topic says what rows are about, not "
        "that they are harmful: one that should stay is a reason to look at the scores again."
    )
    blocks = [_topic(contents, topic) for topic in contents.topics]
    return section("topics", title, lead, tag("div", *blocks, class_="topics"))


def _topic(contents: Contents, topic: Topic) -> Html:
    n, total = len(topic.rows), len(contents.set_apart)
    features = _features(contents, topic.rows)
    return tag(
        "div",
        tag("h3", bdi(topic.name, 80)),
        note(f"{n:,} rows, {percent(n / total)}", *features),
        *(folded_card(contents, row) for row in topic.rows[:_EXAMPLES]),
        class_="topic",
    )


def _features(contents: Contents, rows: Sequence[int]) -> list[object]:
    """The features that are more frequent in the topic than in all that is set apart."""

    def shares(some: Sequence[int]) -> dict[int, float]:
        found = Counter(share.feature for row in some for share in contents.lines[row].top_features)
        return {feature: count / len(some) for feature, count in found.items()}

    usual = shares(contents.set_apart)
    apart = {one: value - usual[one] for one, value in shares(rows).items()}
    chosen = sorted((one for one in apart if apart[one] >= _APART), key=lambda one: -apart[one])
    parts: list[object] = []
    for one in chosen[:_FEATURES]:
        parts += [" · feature " if not parts else ", ", str(one)]
        if label := contents.labels.get(one):
            parts += [" (", words(label[:_FEATURES]), ")"]
    return parts


def against_reference(contents: Contents) -> Html:
    """The features that are here and not in the reference, and the other way round."""
    found = contents.compared
    if found is None:
        return EMPTY
    lead = join(
        "The share of scored rows with a feature among their strongest, here and in ",
        bdi(found.name, 80),
        f" ({found.rows:,} scored rows). A feature may be harmless: this is what the two data sets "
        "differ in, not what is wrong with either.",
    )
    if not found.features:
        return section(
            "features", "Compared with the reference", "These scores are made without features."
        )
    blocks = [
        _listed(contents, f"In more rows here than in {found.name}", found.more),
        _listed(contents, f"In fewer rows here than in {found.name}", found.fewer),
        note(
            "Listed are differences whose 95 % interval leaves out 0. The interval is for one "
            f"feature at a time: of {found.features:,} that are alike in both, about one in twenty "
            "would be listed."
        ),
    ]
    return section("features", "Compared with the reference", lead, *blocks)


def _listed(contents: Contents, caption: str, found: Sequence[FeatureDifference]) -> Html:
    if not found:
        return note(f"{caption}: no feature.")
    examples = _examples(contents)
    lines = [
        (
            str(one.feature),
            *((words(contents.labels.get(one.feature, ())),) if contents.labels else ()),
            snippet(contents, examples[one.feature]) if one.feature in examples else "",
            percent(one.here.value),
            percent(one.there.value),
            _interval(one),
        )
        for one in found
    ]
    said = ("words, if toxic",) if contents.labels else ()
    head = ("feature", *said, "for example", "here", "there", "points apart")
    return table(caption, head, lines, figures=3)


def _interval(one: FeatureDifference) -> str:
    value, low, high = (f"{100 * part:+.1f}".replace("-", "−") for part in one.apart)
    return f"{value} [{low}, {high}]"


def _examples(contents: Contents) -> dict[int, int]:
    """For each feature the first of the rows with a text that has it."""
    found: dict[int, int] = {}
    for row in contents.listed:
        for share in contents.lines[row].top_features:
            found.setdefault(share.feature, row)
    return found
