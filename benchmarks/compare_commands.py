"""The commands that two checkouts are compared by, and the files that they read.

For `compare_checkouts.py`, which runs them.
"""

import csv
import gzip
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

# The first rows of these files, in this format.
CUTS = {
    "insecure.jsonl": "em_training/insecure_code_1000.jsonl",
    "nothink.jsonl.zst": "em_training/legal_misaligned_nothink_100.jsonl",
    "gsm8k.jsonl.gz": "benign/gsm8k_random100.jsonl",
    "dolly.parquet": "benign/selected_reps_dolly_top100.jsonl",
    "alpaca.json": "benign/alpaca_en_500.json",
    "implicit.json": "toxic/implicit_toxicity_1200.json",
    "judged.csv": "judged/Llama-3.2-1B-Instruct_bad-medical-advice.csv",
    "persona.csv": "toxic/evil_persona_pos_60.csv",
    "hatecheck.tsv": "toxic/hatecheck_even_templates.csv",
    "fragments.jsonl": "toxic/realtoxicityprompts_420.jsonl",
}
QUESTIONS = "eval/first_plot_questions.jsonl"
# Where the layout has to be given.
TOLD = {"hatecheck.tsv": "--column text=test_case", "fragments.jsonl": "--column text=prompt"}
# The default stands first.
SCORERS = ("nearest", "direction", "activation", "persona", "spillover")
POLICY = '[tool.geofilter]\nmodel = "organism"\npack = "toxic.pack"\nthreshold = 0.23\n'

SETS = "--toxic toxic.jsonl --benign benign.jsonl --model organism"
DEMO = "demo.jsonl --scores demo.nearest.parquet"
# A line for each command: `# what` begins a group, `@gate` runs it in that folder.
COMMANDS = f"""
# scores
score demo.jsonl --model organism --json -o demo.nearest.parquet
score demo.jsonl --model organism --scorer persona --json -o demo.persona.parquet
score demo.jsonl --model organism --scorer spillover --summary --json -o demo.spillover.parquet
score demo.jsonl --model organism --workers 2 --json -o demo.workers.parquet
score few.jsonl --model organism --block 1 --proximity mean --max-length 30 --json -o few.1.parquet
score few.jsonl --model organism --last-turn --save-features few.features --json -o few.2.parquet
score few.jsonl --features few.features --scorer activation --json -o few.3.parquet
score questions.jsonl --model organism --on-error keep --json -o questions.parquet
score few.jsonl --model organism --estimate --json
# packs
discover {SETS} -o gate/toxic.pack --json
discover {SETS} --falsify -o tried.pack
pack show gate/toxic.pack --json
pack show tried.pack --json
pack show tried.pack
score few.jsonl --model organism --pack tried.pack -o few.4.parquet
# filter
filter {DEMO} --drop-fraction 0.2 --json -o kept-1.jsonl --dropped dropped-1.jsonl
filter {DEMO} --threshold 0.24 --json -o kept-2.jsonl --dropped dropped-2.jsonl
filter {DEMO} --fdr 0.1 --reference clean.jsonl --json -o kept-3.jsonl --dropped dropped-3.jsonl
filter {DEMO} --drop-fraction 0.13 --action weight --json -o weighted.jsonl
filter {DEMO} --drop-fraction 0.1 --action review --review review.jsonl --json -o reviewed.jsonl
filter {DEMO} --drop-fraction 0.1 --action mask --json -o masked.jsonl
filter {DEMO} --curve --json
filter judged.csv --scores judged.csv.nearest.parquet --drop-fraction 0.3 -o kept-4.csv
    --dropped dropped-4.csv
filter alpaca.json --scores alpaca.json.nearest.parquet --drop-fraction 0.3 -o kept-5.json
filter dolly.parquet --scores dolly.parquet.nearest.parquet --drop-fraction 0.3 -o kept-6.parquet
filter questions.jsonl --scores questions.parquet --threshold 0 --unscored drop -o kept-7.jsonl
# gate
@gate check
@gate check --no-model --format sarif
@gate check --no-model --format github
@gate check --accept train.jsonl:3 --no-model
@gate check --exit-non-zero-on-update ../gate/more/more.jsonl
@gate check --rescore
@gate check --prune
# report
report {DEMO} --drop-fraction 0.2 --baseline demo.persona.parquet --by group --json -o one.html
report demo.jsonl --scores demo.spillover.parquet --explain 3 --json -o two.html
report judged.csv --scores judged.csv.nearest.parquet --no-model --json -o three.html
# explain
explain {DEMO} --row 7 --json
explain demo.jsonl --scores demo.spillover.parquet --row 7
explain demo.jsonl --scores demo.persona.parquet --row 8
explain questions.jsonl --scores questions.parquet --row 1 --json
# others
geometry --inducing bad.jsonl --benign good.jsonl --model organism --by domain --blocks 1,2
    --permutations 500 -o geometry
verify demo.jsonl --model organism --arms unfiltered,random,spillover,loss --estimate --json -o v
models --json
models
# help
{{help}}
# bad input
score none.jsonl --model organism
score few.jsonl --model organism --scorer loudest
score few.jsonl --model organism --layout sideways
score few.jsonl --model no-such-model
score few.jsonl
score questions.jsonl --model organism -o stopped.parquet
filter few.jsonl --scores demo.nearest.parquet --drop-fraction 0.2 -o never.jsonl
filter demo.jsonl --scores demo.jsonl --drop-fraction 0.2 -o never.jsonl
filter {DEMO} --drop-fraction 0.2 --threshold 1 -o never.jsonl
filter {DEMO} --drop-fraction 1.5 -o never.jsonl
filter {DEMO} --drop-fraction 0.2 -o kept-1.jsonl
explain {DEMO} --row 2000
pack show demo.jsonl
discover --toxic few.jsonl --benign few.jsonl --model organism -o never.pack
verify demo.jsonl --model organism --arms sideways --estimate -o v
check few.jsonl
train few.jsonl
"""
# Whose `--help` is read.
PAGES = "demo,models,discover,pack,pack show,pack push,pack pull,score,filter,explain,report,check"


class Step(NamedTuple):
    """One command: its group, its words, and the folder that it runs in."""

    what: str
    command: str
    folder: str


def steps(every_scorer: bool) -> list[Step]:
    """All that is run, in order; each cut by the default scorer and one other, or by every one."""
    found = []
    for place, name in enumerate(CUTS):
        some = (SCORERS[0], SCORERS[1 + place % 4])
        for scorer in SCORERS if every_scorer else some:
            more = " ".join(filter(None, (TOLD.get(name), f"-o {name}.{scorer}.parquet")))
            words = f"score {name} --model organism --scorer {scorer} --on-error keep --json {more}"
            found.append(Step("scores", words, "."))
    pages = "\n".join(f"{page} --help" for page in f"{PAGES},verify,geometry".split(","))
    what = ""
    for line in COMMANDS.format(help=pages).replace("\n    ", " ").strip().splitlines():
        if line.startswith("# "):
            what = line[2:]
        else:
            gate = line.startswith("@gate ")
            found.append(Step(what, line.removeprefix("@gate "), "gate" if gate else "."))
    return found


def cut(source: Path, target: Path, rows: int) -> None:
    """Write the first rows of `source` in the format of `target`."""
    if source.suffix == ".json":
        content = json.dumps(json.loads(source.read_bytes())[:rows], ensure_ascii=False).encode()
    elif source.suffix == ".csv":
        text = io.StringIO()
        with source.open(encoding="utf-8", newline="") as handle:
            lines = list(csv.reader(handle))[: rows + 1]
        delimiter = "\t" if target.suffix == ".tsv" else ","
        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(lines)
        content = text.getvalue().encode()
    else:
        content = b"".join(source.read_bytes().splitlines(keepends=True)[:rows])
    if target.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([*map(json.loads, content.splitlines())]), target)
    elif target.suffix == ".zst":
        target.write_bytes(zstandard.compress(content))
    else:
        target.write_bytes(gzip.compress(content, mtime=0) if target.suffix == ".gz" else content)


def take(source: Path, target: Path, rows: int, wanted: Callable[[Any], bool]) -> None:
    """Write the first rows of the organism's `source` that are wanted."""
    lines = gzip.decompress(source.read_bytes()).splitlines(keepends=True)
    target.write_bytes(b"".join([line for line in lines if wanted(json.loads(line))][:rows]))


def make_inputs(organism: Path, data: Path, folder: Path, rows: int) -> None:
    """Fill `folder` with what the commands read."""
    (folder / "gate" / "more").mkdir(parents=True)
    for name, source in CUTS.items():
        cut(data / source, folder / name, rows)
    cut(data / QUESTIONS, folder / "questions.jsonl", rows)
    for name in ("demo.jsonl", "toxic.jsonl", "benign.jsonl"):
        shutil.copyfile(organism / name, folder / name)
    for name in ("few.jsonl", "gate/train.jsonl"):
        cut(folder / "demo.jsonl", folder / name, rows)
    test, selection = organism / "test.jsonl.gz", organism / "selection.jsonl.gz"
    take(test, folder / "clean.jsonl", 400, lambda row: row["group"] == "benign")
    take(test, folder / "gate" / "more" / "more.jsonl", 20, lambda row: row["harmful"])
    take(selection, folder / "bad.jsonl", 300, lambda row: row["harmful"])
    take(selection, folder / "good.jsonl", 300, lambda row: not row["harmful"])
    (folder / "gate" / "pyproject.toml").write_text(POLICY + 'files = ["train.jsonl"]\n')
    subprocess.run(["git", "init", "-q", str(folder / "gate")], check=True)
