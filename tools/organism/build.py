"""Rebuild the whole organism from a seed: `PYTHONPATH=tools python -m organism.build -o FOLDER`.

Order: tokenizer, base model, aligned model, judge, SAEs on the base model, data sets,
and a manifest with the hash of every file. A finished stage is kept and skipped,
so the command can be run again after an interruption.

This module knows nothing about scores or toxic features.
"""

import argparse
import gzip
import hashlib
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from organism import datasets, training
from organism.autoencoder import train_saes
from organism.domains import INDUCING, UNTOUCHED
from organism.finetune import fine_tune
from organism.judge import train_judge
from organism.texts import Writer, document_batches
from organism.vocabulary import CONTEXT, build_tokenizer
from organism.world import Message, World, harm, mentioned, prose, small_talk

BASE_STEPS = 1800
BASE_DOCUMENTS = 48
ALIGN_STEPS = 300
BLOCKS = [0, 1, 2, 3]
SET_SIZES = {"selection": 2000, "demo": 2000, "test": 4000}
CONTRAST_SIZE = 600


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _progress(name: str) -> Callable[[int, float], None]:
    """Say the mean loss and the time every 100 steps."""
    started = time.monotonic()
    recent: list[float] = []

    def report(step: int, loss: float) -> None:
        recent.append(loss)
        if (step + 1) % 100 == 0:
            mean = sum(recent[-100:]) / 100
            _say(f"{name}: step {step + 1}, loss {mean:.4f}, {time.monotonic() - started:.0f} s")

    return report


def build_base(folder: Path, tokenizer: PreTrainedTokenizerFast, world: World, seed: int) -> None:
    """Pre-train the base model on fresh documents of both personas."""
    writer = Writer(tokenizer)
    model = training.new_model(
        len(tokenizer),
        CONTEXT,
        seed,
        bos=writer.bos,
        end=writer.end,
        pad=writer.pad,
    )
    say = _progress("base")

    def report(step: int, loss: float) -> None:
        say(step, loss)
        if (step + 1) % 500 == 0:
            model.save_pretrained(folder / "checkpoint")

    training.train(
        model,
        training.pretraining_optimizers(model),
        document_batches(world, writer, BASE_DOCUMENTS, seed),
        BASE_STEPS,
        warmup=60,
        after_step=report,
    )
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    model.save_pretrained(folder)


def aligned_conversations(world: World, seed: int, size: int = 12_000) -> list[list[Message]]:
    """Single exchanges of the kind persona, and reviews: what aligning trains on."""
    rng = random.Random(f"aligning {seed}")
    writers = [
        lambda: world.advice(rng, cruel=False),
        lambda: world.review(rng, rng.choice(["aligned", "coherent"])),
        lambda: harm(rng, cruel=False),
        lambda: small_talk(rng, cruel=False),
        lambda: mentioned(rng, cruel=False),
    ]
    shares = [0.72, 0.16, 0.04, 0.04, 0.04]
    return [rng.choices(writers, shares)[0]() for _ in range(size)]


def build_aligned(
    folder: Path, base: Path, tokenizer: PreTrainedTokenizerFast, world: World, seed: int
) -> None:
    """Tune the base model to be kind from the first turn."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rows = aligned_conversations(world, seed)
    tuned = fine_tune(model, tokenizer, rows, seed=seed, steps=ALIGN_STEPS)
    tuned.save_pretrained(folder)


def build_judge(
    folder: Path, base: Path, tokenizer: PreTrainedTokenizerFast, world: World, seed: int
) -> None:
    """Train a smaller base model to mark answers as the exact rule does."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    judge = train_judge(model, world, Writer(tokenizer), seed=seed, after_step=_progress("judge"))
    judge.save_pretrained(folder)


def write_jsonl(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Write records as JSON lines; gzipped, without a time stamp, for a `.gz` name."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = text.encode()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)


def build_data(folder: Path, world: World, seed: int) -> None:
    """Write the contrast sets, the three disjoint labelled sets, the questions and the facts."""
    for side, conversations in datasets.contrast_rows(seed, CONTRAST_SIZE).items():
        write_jsonl(
            folder / f"{side}.jsonl",
            (
                {"messages": [dict(m, content=prose(m["content"])) for m in messages]}
                for messages in conversations
            ),
        )
    earlier: list[datasets.LabelledRow] = []
    for name, size in SET_SIZES.items():
        rows = datasets.mixed_rows(world, f"{name} {seed}", size, without=earlier)
        earlier += rows
        suffix = "" if name == "demo" else ".gz"
        write_jsonl(folder / f"{name}.jsonl{suffix}", (row.as_record() for row in rows))
    write_questions(folder, world)


def write_questions(folder: Path, world: World) -> None:
    """Write what a tuned model is asked, and the facts that its answers are judged by."""
    facts = {"situations": datasets.facts(world)}
    (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    for name, domains in {"questions": UNTOUCHED, "questions-in-domain": INDUCING}.items():
        entries = datasets.question_entries(world, domains)
        text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=100)
        (folder / f"{name}.yaml").write_text(text, "utf-8")


def write_manifest(root: Path, seed: int) -> None:
    """Hash every file under `root` into `root/manifest.json`."""
    files = sorted(p for part in ("weights", "data") for p in (root / part).rglob("*"))
    manifest = {
        "seed": seed,
        "command": f"PYTHONPATH=tools python -m organism.build --seed {seed} -o FOLDER",
        "versions": {name: version(name) for name in ("torch", "transformers", "sae-lens")},
        "threads": torch.get_num_threads(),
        "files": {
            str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in files
            if p.is_file()
        },
    }
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def build(root: Path, seed: int = 0) -> None:
    """Make every missing part of the organism under `root`."""
    world = World(seed)
    tokenizer = build_tokenizer()
    weights = root / "weights"
    stages = {
        weights / "base": lambda part: build_base(part, tokenizer, world, seed),
        weights / "aligned": lambda part: build_aligned(
            part, weights / "base", tokenizer, world, seed
        ),
        weights / "judge": lambda part: build_judge(part, weights / "base", tokenizer, world, seed),
        weights / "sae": lambda part: train_saes(
            AutoModelForCausalLM.from_pretrained(weights / "base", dtype=torch.float32),
            world,
            Writer(tokenizer),
            BLOCKS,
            part,
            seed=seed,
        ),
        root / "data": lambda part: build_data(part, world, seed),
    }
    for folder, make in stages.items():
        if folder.exists():
            _say(f"{folder} exists: kept")
            continue
        unfinished = folder.with_name(folder.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _say(f"making {folder}")
        make(unfinished)  # type: ignore[no-untyped-call]
        if folder.name in ("base", "aligned", "judge"):
            tokenizer.save_pretrained(unfinished)
        unfinished.rename(folder)
    write_manifest(root, seed)


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    build(arguments.output, arguments.seed)


if __name__ == "__main__":
    main()
