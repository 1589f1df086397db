"""What geofilter's scorers can tell apart on real text, and what they cannot.

    python benchmarks/real_text.py --data FOLDER --model smollm2-135m \
        --model gemma-3-270m=FILE.gguf --model minilm=FOLDER

FOLDER holds real data sets that are not part of this repository; `real_text_sets.py` names
them. Each model reads each row once, which takes most of an hour for the smallest on one core;
what is kept lies in `--cache`, and a row that is there is not read again. Then every direction,
block and scorer is arithmetic. Models that are in the results file already stay there, and
`--add` measures a way to score that their figures lack, alone: `influence` reads the pairs and the
rows that `spillover` is measured on, and nothing of the cache. `--report` measures nothing and only
writes the page and its figure.
"""

import argparse
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

import real_text_baselines as baselines
import real_text_cells as cells
import real_text_features as features
import real_text_influence as influence
import real_text_measure as measure
import real_text_report as report
import real_text_saes as saes
import real_text_sets as sets
from geofilter.model.catalogue import CATALOGUE
from geofilter.model.loading import LoadedModel
from geofilter.support.manifest import library_versions
from real_text_cells import Scores
from resuming import kept_results, write

RESULT = Path(__file__).parent / "results" / "real_text.json"
PAGE = Path(__file__).parents[1] / "docs" / "real-text.md"
# Ways to score that are measured after the others, each by itself.
LATER = ("influence", "larf")


@dataclass(frozen=True)
class Pass:
    """One model's pass over the sets: what it kept, and what it was."""

    looked: Mapping[str, measure.Looked]
    thinned: Mapping[str, tuple[measure.Looked, tuple[features.Floats, features.Floats]]]
    facts: Mapping[str, Any]


def look_at(
    model: LoadedModel, name: str, found: Sequence[sets.Set], store: features.Store
) -> dict[str, measure.Looked]:
    """Read every row of the sets with one model."""
    encoder = features.encoder_of(model)
    looked = {}
    for one in found:
        sides = [features.encode(encoder, side) for side in (one.harmful, one.benign)]
        features.fill(store, model, [s for side in sides for s in side if s is not None], "looks")
        looked[one.name] = measure.Looked(one, *(features.side(store, side) for side in sides))
        print(f"{name}: {one.name}", flush=True)
    return looked


def one_pass(name: str, place: str, found: Sequence[sets.Set], cache: Path, most: int) -> Pass:
    """Read every row of the sets with one model, and push on at most `most` of some."""
    model = features.load_at_last_block(name, place)
    encoder = features.encoder_of(model)
    store = features.Store.of(cache, model)
    looked = look_at(model, name, found, store)
    thinned = {}
    for one in found if features.has_head(model) else ():
        if one.name in sets.PUSHED:
            few = one.thinned(most)
            sides = [features.encode(encoder, side) for side in (few.harmful, few.benign)]
            wanted = [s for side in sides for s in side if s is not None]
            features.fill(store, model, wanted, "pushes")
            of_few = measure.Looked(few, *(features.side(store, side) for side in sides))
            above, below = (features.pushed(store, side) for side in sides)
            thinned[one.name] = (of_few, (above, below))
            print(f"{name}: {one.name}, pushes", flush=True)
    facts = {
        "weights": model.fingerprint["weights"],
        "blocks": model.block + 1,
        "template": encoder_form(model),
        "cost": store.costs(),
    }
    return Pass(looked, thinned, facts)


def encoder_form(model: Any) -> str:
    return "none" if model.tokenizer.chat_template is None else "chat"


def without_model(found: Sequence[sets.Set]) -> dict[str, dict[str, Scores]]:
    """Scores by length, by a list of words and by the words of the pairs, on each set."""
    source = next(one for one in found if one.name == "pairs-make")
    texts = {
        one.name: [[item.text for item in side] for side in (one.harmful, one.benign)]
        for one in found
    }
    ways = {
        "length": baselines.lengths,
        "keywords": baselines.keyword_scores,
        "bag of words": baselines.BagOfWords(*texts.pop(source.name)),
    }
    groups = {one.name: measure.groups(one) for one in found}
    return {
        way: {
            name: Scores(*map(score, both), groups[name], baselines.lengths([*both[0], *both[1]]))
            for name, both in texts.items()
        }
        for way, score in ways.items()
    }


def facts(folder: sets.Folder, sizes: sets.Sizes) -> dict[str, Any]:
    """What decides the figures, besides the models."""
    shipped = files("geofilter.packs").joinpath("data/pairs.jsonl").read_bytes()
    return {
        "command": "python benchmarks/real_text.py --data FOLDER --model NAME[=FILE]",
        "rule": " ".join((measure.__doc__ or "").split("\n\n")[1].split()),
        "seeds": {"rows": sets.SEED, "draws": cells.SEED},
        "draws": cells.DRAWS,
        "sizes": sizes._asdict(),
        "window": features.WINDOW,
        "threads": 1,
        "pairs_sha256": hashlib.sha256(shipped).hexdigest(),
        "data_sha256": dict(sorted(folder.sha256.items())),
        "columns": list(cells.Cell._fields),
        "versions": {"python": platform.python_version()}
        | library_versions(["geofilter", "torch", "transformers", "numpy"]),
    }


def add(
    record: dict[str, Any],
    way: str,
    name: str,
    place: str,
    found: Sequence[sets.Set],
    cache: Path,
) -> None:
    """Put one of `LATER` into a model's record, where it is not there and can be measured."""
    if f"{way}/pairs" in record["chosen"]:
        return
    model = features.load_at_last_block(name, place)
    store = features.Store.of(cache, model)
    if way == "larf":
        table = measure.larf_table(look_at(model, name, found, store))
    elif features.has_head(model) and name in CATALOGUE:
        table = influence.influence_table(model, sorted(CATALOGUE[name].sae), found, store)
    else:
        return
    measure.add(record, table)
    print(f"{name}: {way} added", flush=True)


def main() -> None:
    """Measure the models that are named and not measured yet; write results, page and figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the real sets")
    parser.add_argument("--model", action="append", default=[], metavar="NAME[=FILE]")
    parser.add_argument("--add", action="append", default=[], choices=LATER)
    parser.add_argument("--sets", default="", help="only those of these names, with commas")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/geofilter-real-text")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.report:
        report.write(json.loads(options.output.read_text()), options.output, PAGE)
        return
    if options.data is None:
        parser.error("give the folder of the real sets with --data")
    torch.set_num_threads(1)
    folder, sizes = sets.Folder(options.data), sets.Sizes()
    found = sets.read(folder, sizes)
    known = facts(folder, sizes)
    results = {**known, **kept_results(options.output, known)}
    results["sets"] = {
        one.name: {
            "title": one.title,
            "matched": one.matched,
            "harmful": len(one.harmful),
            "benign": len(one.benign),
        }
        for one in found
    }
    plain = without_model(found)
    results["baselines"] = measure.records(plain)
    of_judged = {way: measure.judged(scores) for way, scores in plain.items()}
    for name, inside in (("judged_baselines", False), ("judged_baselines_within", True)):
        means = cells.compared(of_judged, inside=inside)
        results[name] = {way: list(means[way]) for way in plain}
    results.setdefault("models", {})
    wanted = {name for name in options.sets.split(",") if name}
    for spelled in options.model:
        name, _, place = spelled.partition("=")
        asked = [one for one in found if not wanted or one.name in wanted]
        if name in results["models"]:
            for way in options.add:
                add(results["models"][name], way, name, place or name, asked, options.cache)
                write(options.output, results)
            continue
        done = one_pass(name, place or name, asked, options.cache, sizes.pushed)
        table = measure.persona_table(done.looked)
        if done.thinned:
            table |= measure.spillover_table(done.looked, done.thinned)
        with_sae = CATALOGUE[name].sae if name in CATALOGUE else {}
        if with_sae and not place:  # a file comes without them
            table |= saes.features_table(name, asked, options.cache)
        found_here = measure.summary(table, done.looked, with_sae)
        results["models"][name] = {**done.facts, **found_here}
        for way in LATER:
            add(results["models"][name], way, name, place or name, asked, options.cache)
        write(options.output, results)
        print(f"{name}: measured", flush=True)
    report.write(results, options.output, PAGE)


if __name__ == "__main__":
    main()
