"""The sections that are read: what the run cannot tell, and what it measured on what.

Every sentence that a figure can drive is driven by one. Nothing here calls anything safe.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from geofilter.data.problems import SCORED
from geofilter.model.catalogue import NO_SAE
from geofilter.report import numbers
from geofilter.report.contents import Contents
from geofilter.report.document import listed
from geofilter.report.html import Html, folded, percent, section, tag
from geofilter.report.svg import number
from geofilter.support.manifest import at_path

_LENGTHY = 0.3  # a correlation with length from which the limits name it


def limits(contents: Contents) -> Html:
    """What the run cannot tell, in words that its figures choose."""
    items = [tag("li", tag("strong", what, " "), why) for what, why in _limits(contents)]
    return section("limits", "What this run cannot tell", None, tag("ul", *items, class_="limits"))


def _limits(contents: Contents) -> Iterator[tuple[str, str]]:
    if contents.by_direction:
        score = "A score is made along one direction in one model. Harm that does not lie along it"
    else:
        score = "A score is proximity in one model's features. Harm without a feature"
    yield (
        "Whether a row is harmful.",
        f"{score}, or of a kind that was not in the contrast sets, is invisible to it; text that "
        "quotes or warns of harm can lie near it.",
    )
    yield (
        "Whether what stays is harmless.",
        "A low score is no clearance. The random sample of the rest is there to be read.",
    )
    yield from _about_unscored(contents)
    yield from _about_fit(contents)
    yield from _about_length(contents)
    yield from _about_choice(contents)


def _about_unscored(contents: Contents) -> Iterator[tuple[str, str]]:
    statuses = contents.columns.statuses
    total = sum(statuses.values())
    unscored = {status: n for status, n in statuses.items() if status not in SCORED}
    n = sum(unscored.values())
    if n:
        kinds = ", ".join(
            f"{count:,} {status.replace('_', ' ')}" for status, count in unscored.items()
        )
        yield (
            f"Anything about {n:,} of {total:,} rows.",
            f"They have no score ({percent(n / total)}): {kinds}. No threshold drops them.",
        )
    cut = statuses.get("truncated", 0)
    if cut:
        window = at_path(contents.table.manifest.decides, "window", "max_length")
        width = f" of {window:,} tokens" if isinstance(window, int) else ""
        yield (
            f"What {cut:,} rows go on to say.",
            f"They are longer than the window{width} ({percent(cut / total)} of all rows); what "
            "lies beyond it was not read.",
        )


def _about_fit(contents: Contents) -> Iterator[tuple[str, str]]:
    columns = contents.columns
    contrast = at_path(contents.table.manifest.facts, "contrast")
    explained = numbers.quantiles(columns.explained_variance, (0.05, 0.5))
    if explained and not contents.by_direction:
        usual = at_path(contrast, "explained_variance")
        there = f"; on the contrast rows it was {percent(usual)}" if _is_share(usual) else ""
        left = max(0.0, 1 - explained[0.5])
        yield (
            "What the SAE does not see.",
            f"It explains {percent(_clip(explained[0.5]))} of the variance of a typical response"
            f"{there}. The other {percent(_clip(left))} enters no SAE feature.",
        )
    unknown = columns.unknown_share[~np.isnan(columns.unknown_share)]
    if len(unknown) and unknown.max() > 0:
        yield (
            "What words unknown to the model mean.",
            f"{int((unknown > 0).sum()):,} rows hold such words; in a typical row they are "
            f"{percent(_clip(float(np.median(unknown))))} of the tokens, at most "
            f"{percent(_clip(float(unknown.max())))}.",
        )


def _about_length(contents: Contents) -> Iterator[tuple[str, str]]:
    found = contents.length
    if found and abs(found.value) >= _LENGTHY and not found.low <= 0 <= found.high:
        yield (
            "Content apart from length.",
            f"Score and length go together (rank correlation {number(found.value, 2)}); random "
            "rows of the same lengths are the comparison to make.",
        )
    if contents.short:
        yield (
            "Whether the shortest belong among these rows.",
            f"{contents.short.removeprefix('warning: ')}.",
        )


def _about_choice(contents: Contents) -> Iterator[tuple[str, str]]:
    if contents.promise:
        yield (
            "How many of the rows that would go are clean in this draw.",
            contents.promise,
        )
    if contents.choice.made:
        yield (
            "Whether dropping these rows helps.",
            "Only fine-tuning with and without them does: geofilter verify.",
        )
    if contents.baseline is None and not contents.by_direction:
        yield (
            "What the SAE adds.",
            "No dense baseline was given to compare with.",
        )


def run(contents: Contents) -> Html:
    """What this run measured, and on what, as the table's manifest says it."""
    decides, facts = contents.table.manifest.decides, contents.table.manifest.facts
    own = "the model's own"
    rows: list[tuple[str, object]] = [
        ("data", contents.name),
        ("rows", f"{len(contents.table):,}"),
        ("read", str(contents.reading)),
        ("model", at_path(facts, "settings", "model")),
        ("block", at_path(decides, "model", "block")),
        ("SAE", NO_SAE if contents.is_dense else at_path(facts, "settings", "sae") or own),
        ("scorer", _scorer(decides.get("scorer"))),
        ("feature pack", at_path(facts, "settings", "pack") or own),
        ("window", _window(decides)),
        ("precision", decides.get("dtype")),
        *_stated("weights rounded to", _rounding(decides)),
        ("scored", facts.get("started")),
        ("versions", _pairs(decides.get("versions"))),
        *_stated("revisions", _pairs(facts.get("revisions"))),
        ("contrast rows", _contrast(facts.get("contrast"))),
    ]
    hashes: list[tuple[str, object]] = [
        ("data, SHA-256", at_path(decides, "data", "sha256")),
        ("model's weights", at_path(decides, "model", "weights")),
        ("SAE", at_path(decides, "model", "sae")),
        ("tokenizer", at_path(decides, "model", "tokenizer")),
        ("pack", decides.get("pack")),
        ("all that decides the scores", contents.table.manifest.hash),
    ]
    to = "harm, along one direction" if contents.by_direction else "the model's toxic features"
    return section(
        "run",
        "What was measured, and on what",
        f"Closeness of each row's response to {to}, by the scorer below, "
        "under this model and this pack. A score of another model cannot be compared with these.",
        listed(rows),
        folded("Fingerprints", listed(hashes)),
    )


def _stated(name: str, value: object) -> list[tuple[str, object]]:
    """A line about what not every run has; none where this one has it not."""
    return [] if value is None else [(name, value)]


def _rounding(decides: Mapping[str, object]) -> object:
    """What the weights were rounded to: as the run asked for, or in their file."""
    if (asked := decides.get("load_in")) is not None:
        return asked
    # The types stand after the hash: see `LoadedModel.fingerprint`.
    own = str(at_path(decides, "model", "weights")).partition("-")[2]
    return f"the file's own ({own})" if own else None


def _window(decides: Mapping[str, object]) -> str | None:
    length = at_path(decides, "window", "max_length")
    last = at_path(decides, "window", "last_turn")
    if length is None:
        return None
    return f"{length} tokens, {'the last turn' if last else 'all response turns'}"


def _scorer(value: object) -> object:
    if not isinstance(value, dict):
        return value
    settings = [f"{name} {value[name]}" for name in value if name != "name"]
    return ", ".join([str(value.get("name")), *settings])


def _pairs(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    known = [f"{name} {version}" for name, version in value.items() if version is not None]
    return ", ".join(known) or None


def _contrast(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    try:
        return (
            f"{value['toxic_rows']} toxic and {value['benign_rows']} benign kept for reporting; "
            f"dense direction AUROC {value['persona_auroc']:.2f} "
            f"[{value['persona_auroc_low']:.2f}, {value['persona_auroc_high']:.2f}]"
        )
    except (KeyError, TypeError, ValueError):
        return None


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _clip(share: float) -> float:
    return min(1.0, max(0.0, share))
