"""The card (README.md) of a data set that is pushed: what made it, and what that cannot tell.

Names of files, models and columns are text from elsewhere: they are shown as text only, and of
what lies on the maker's machine by its last part only.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geofilter.packs.share import last_part, public_model, public_sae
from geofilter.scoring.table import ScoreTable
from geofilter.support.manifest import at_path, library_versions
from geofilter.support.markdown import cell

OWN = "the model's own"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a card says of the rows that are pushed.

    `repo`: ORG/NAME. `files`: the rows, as a pattern of names there. `about`: a sentence that
    says what the rows are. `figures`: how rows were chosen, and their counts. `limits`: what of
    this choice cannot be said, a sentence each. `table`: the scores, if there are any.
    """

    repo: str
    files: str
    about: str
    source: str
    read: str
    figures: Mapping[str, object]
    limits: Sequence[str]
    table: ScoreTable | None


def card(contents: Contents) -> str:
    """The Markdown page, with the header that says where the hub finds the rows."""
    from huggingface_hub import DatasetCardData

    header = DatasetCardData(
        tags=["geofilter"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": contents.files}],
            }
        ],
    )
    made = _made(contents.table)
    lines = [
        f"---\n{header}\n---\n",
        f"# {contents.repo.partition('/')[2]}",
        "",
        contents.about,
        "",
        *_table({"source": last_part(contents.source), "read": contents.read, **contents.figures}),
        *([] if contents.table is None else ["## What made the scores", "", *_table(made)]),
        "## What this cannot tell",
        "",
        *[f"- {limit}" for limit in (*contents.limits, *_limits(contents.table))],
        "",
        "The licence and terms are those of the source of the rows; this card adds none.",
        "",
    ]
    return "\n".join(lines)


def record(contents: Contents) -> bytes:
    """The same figures for programs, as JSON."""
    whole = {
        "rows": contents.files,
        "figures": dict(contents.figures),
        "made": _made(contents.table),
        "versions": library_versions(["geofilter"]),
    }
    return json.dumps(whole, indent=1).encode("ascii") + b"\n"


def _table(rows: Mapping[str, object]) -> list[str]:
    known = [(name, value) for name, value in rows.items() if value is not None]
    return [
        "| | |",
        "| --- | --- |",
        *[f"| {name} | {_shown(value)} |" for name, value in known],
        "",
    ]


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return cell(f"{value:.6g}" if isinstance(value, float) else value)


def _made(table: ScoreTable | None) -> dict[str, object]:
    """What made the scores, as the table's manifest says it; a table may be foreign."""
    if table is None:
        return {}
    decides, facts = table.manifest.decides, table.manifest.facts
    pack, sae = at_path(facts, "settings", "pack"), at_path(facts, "settings", "sae")
    window, scorer = at_path(decides, "window", "max_length"), decides.get("scorer")
    return {
        "model": public_model(str(at_path(facts, "settings", "model"))),
        "model's weights": at_path(decides, "model", "weights"),
        "block": at_path(decides, "model", "block"),
        "SAE": OWN if sae is None else public_sae(str(sae)),
        "feature pack": OWN if pack is None else _pack(str(pack)),
        "pack's digest": decides.get("pack"),
        "scorer": _words(scorer),
        "window": None if window is None else f"{window} tokens",
        "precision": decides.get("dtype"),
        "weights rounded to": decides.get("load_in"),
        "scored": facts.get("started"),
        "versions": _words(decides.get("versions")),
        "data, SHA-256": at_path(decides, "data", "sha256"),
        "all that decides the scores": table.manifest.hash,
    }


def _pack(place: str) -> str:
    return place if place.startswith("hf://") else last_part(place)


def _words(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return None if value is None else str(value)
    first = [str(value["name"])] if "name" in value else []
    rest = [f"{name} {one}" for name, one in value.items() if name != "name" and one is not None]
    return ", ".join([*first, *rest]) or None


def _limits(table: ScoreTable | None) -> list[str]:
    if table is None:
        return [
            "Whether these rows are harmless. A person, or what made the list, decided on the rows "
            "that were listed, and on no others.",
        ]
    return [
        "Whether a row is harmful. A score is closeness to toxic directions of this model. Harm of "
        "a kind that was not in the contrast rows is invisible to it; text that quotes or warns of "
        "harm can lie near.",
        "Whether a row with a low score is harmless. A low score is no clearance.",
        "Anything about another model. Its directions are others, and scores of two models cannot "
        "be compared.",
        "Whether training on other rows than all helps. Only fine-tuning with and without them "
        "does: `geofilter verify`.",
    ]
