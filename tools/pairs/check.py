"""Checks the contrast pairs: what they look like, and that words and length do not tell.

    PYTHONPATH=tools python -m pairs.check [FILE] [--questions FOLDER] [--json FILE]

prints a table and writes all figures as JSON (to standard output, or to the file that
`--json` names). The exit code is 1 when a limit is broken:

- form: see `pairs.form`;
- length: the AUROC of the number of characters within 0.45 to 0.55 in each split;
- words: the mean AUROC over the domains of a split, of a classifier that learnt from the
  two other splits, at most 0.60, with single words and with neighbouring words as well;
- questions: no prompt is nearer to a question of the folder than 0.60, by the cosine of
  TF-IDF vectors of words or of runs of characters, or by the share of the prompt's runs of
  four words that the question holds too.

What else is printed (each domain held out by itself, runs of characters, the share of
pairs put in the right order) has no limit; it is there to be looked at.
"""

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pairs import classify, form, questions
from pairs.form import Pair

FILE = Path(__file__).parents[2] / "geofilter" / "packs" / "data" / "pairs.jsonl"
SEED = 0
LENGTH = (0.45, 0.55)
WORDS = 0.60
NEAR = 0.60
LIMITED = {"words": classify.unigrams, "words and neighbours": classify.bigrams}
OTHERS = {"characters": classify.characters}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="pairs.check", description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument("--questions", type=Path, metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        pairs = form.read(options.file)
        near = None if options.questions is None else near_questions(pairs, options.questions)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    broken = form.faults(pairs)
    found: dict[str, Any] = {"file": options.file.name, "pairs": len(pairs)}
    if not broken:
        found |= measured(pairs)
        broken = over_limits(found)
    if near is not None:
        found["questions"] = near
        broken += [
            f"near a question by {kind}: {one['prompt']} ({one['question']})"
            for kind, nearest in near["nearest"].items()
            for one in nearest
            if one["likeness"] > NEAR
        ]
    found |= {"broken": broken, "seed": SEED, "versions": versions()}
    print(table(found))
    text = json.dumps(found, indent=1)
    if options.json is None:
        print(text)
    else:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if broken else 0


def measured(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Length and words, of the splits and of each domain."""
    found: dict[str, Any] = {"length": length(pairs), "rotations": {}, "domains": {}}
    for name, terms in (LIMITED | OTHERS).items():
        chosen = {}
        rotations = found["rotations"][name] = {}
        for split in form.SPLITS:
            train = [pair for pair in pairs if pair.split != split]
            test = [pair for pair in pairs if pair.split == split]
            chosen[split] = classify.choose(train, terms, SEED)
            rotations[split] = described(classify.measure(train, test, terms, chosen[split]))
        if name in LIMITED:
            found["domains"][name] = one_by_one(pairs, terms, chosen)
    return found


def length(pairs: Sequence[Pair]) -> dict[str, float]:
    """The AUROC of the number of characters, of each split."""
    return {
        split: classify.auroc(
            np.array([float(len(pair.harmful)) for pair in pairs if pair.split == split]),
            np.array([float(len(pair.helpful)) for pair in pairs if pair.split == split]),
        )
        for split in form.SPLITS
    }


def one_by_one(
    pairs: Sequence[Pair], terms: classify.Terms, chosen: Mapping[str, classify.Setting]
) -> dict[str, Any]:
    """Each domain scored by all the others.

    The setting is the one chosen within the two splits that the domain does not belong to.
    """
    aurocs = {}
    for domain, split in {pair.domain: pair.split for pair in pairs}.items():
        train = [pair for pair in pairs if pair.domain != domain]
        test = [pair for pair in pairs if pair.domain == domain]
        aurocs[domain] = classify.measure(train, test, terms, chosen[split]).mean
    values = list(aurocs.values())
    return {
        "mean": float(np.mean(values)),
        "interval": classify.interval(values, SEED),
        "auroc": aurocs,
    }


def described(outcome: classify.Outcome) -> dict[str, Any]:
    values = list(outcome.domains.values())
    return {
        "mean": outcome.mean,
        "interval": classify.interval(values, SEED),
        "pooled": outcome.pooled,
        "paired": outcome.paired,
        "setting": asdict(outcome.setting),
        "auroc": dict(outcome.domains),
    }


def near_questions(pairs: Sequence[Pair], folder: Path) -> dict[str, Any]:
    known = questions.read(folder)
    found = {"runs of words": questions.nearest_by_runs(pairs, known)}
    for name, terms in questions.KINDS.items():
        found[name] = questions.nearest(pairs, known, terms)
    return {
        "count": len(known),
        "nearest": {kind: [asdict(one) for one in nearest] for kind, nearest in found.items()},
    }


def over_limits(found: Mapping[str, Any]) -> list[str]:
    broken = [
        f"length separates the sides of {split}: AUROC {value:.3f}"
        for split, value in found["length"].items()
        if not LENGTH[0] <= value <= LENGTH[1]
    ]
    return broken + [
        f"{name} separate the sides of {split}: AUROC {rotation['mean']:.3f}"
        for name in LIMITED
        for split, rotation in found["rotations"][name].items()
        if rotation["mean"] > WORDS
    ]


def table(found: Mapping[str, Any]) -> str:
    lines = [f"{found['pairs']} pairs"]
    if "rotations" in found:
        lines.append(f"{'AUROC':24}" + "".join(f"{split:>20}" for split in form.SPLITS))
        cells = [f"{found['length'][split]:.3f}" for split in form.SPLITS]
        lines.append(f"{'length':24}" + "".join(f"{cell:>20}" for cell in cells))
        for name, rotations in found["rotations"].items():
            cells = [
                "{:.3f} [{:.3f} {:.3f}]".format(rotations[s]["mean"], *rotations[s]["interval"])
                for s in form.SPLITS
            ]
            lines.append(f"{name:24}" + "".join(f"{cell:>20}" for cell in cells))
        for name, domains in found["domains"].items():
            text = "{:.3f} [{:.3f} {:.3f}]".format(domains["mean"], *domains["interval"])
            worst = max(domains["auroc"], key=domains["auroc"].__getitem__)
            lines.append(
                f"{name}, each domain held out: {text}, "
                f"most {domains['auroc'][worst]:.3f} ({worst})"
            )
    for kind, nearest in found.get("questions", {}).get("nearest", {}).items():
        lines += [
            f"nearest by {kind}: {near['likeness']:.2f} {near['question']}: {near['prompt']}"
            for near in nearest
        ]
    return "\n".join([*lines, *(f"BROKEN: {fault}" for fault in found["broken"])])


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: version(name) for name in ("numpy", "scipy")
    }


if __name__ == "__main__":
    sys.exit(main())
