"""Whatever is wrong with a command line is told in one line, and nothing is left behind.

Each case: a command, what prepares it, and what its one line has to say. Everything
else that could happen (a traceback, another exit code, a new file) fails the test.
The cases of `verify` and `geometry` are in `test_bad_experiment_input`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from geofilter.cli import main as cli
from helpers.cli_mistakes import TINY, Case, assert_refused

SCORE = f"score data.jsonl {TINY} --pack my.pack -o new.parquet"
FILTER = "filter data.jsonl --scores data.scores.parquet -o kept.jsonl"
REPORT = "report data.jsonl --scores data.scores.parquet --no-model -o new.html"
EXPLAIN = "explain data.jsonl --scores data.scores.parquet"
DISCOVER = f"discover --toxic toxic.jsonl --benign benign.jsonl {TINY} -o new.pack"


LONG = "x" * 300


def append(path: str, text: bytes) -> Callable[[], None]:
    def prepare() -> None:
        with Path(path).open("ab") as file:
            file.write(text)

    return prepare


def cut(path: str, size: int = 200) -> Callable[[], None]:
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:size]) and None


def replace(path: str, text: bytes) -> Callable[[], None]:
    return lambda: Path(path).write_bytes(text) and None


def remove(path: str) -> Callable[[], None]:
    return lambda: Path(path).unlink()


def copy(path: str, to: str) -> Callable[[], None]:
    return lambda: shutil.copy(path, to) and None


def score_then_remove(path: str) -> Callable[[], None]:
    """A table remembers the places of what made it: score in this folder, then remove one."""

    def prepare() -> None:
        assert cli.main(SCORE.split()) == 0
        Path(path).unlink()

    return prepare


def score_other(options: str) -> None:
    command = f"score other.jsonl {TINY} --pack my.pack -o other.parquet {options}"
    assert cli.main(command.split()) == 0


CASES = {
    # the command line itself
    "no such command": Case("scroe data.jsonl", ("No such command 'scroe'", "geofilter --help")),
    "no such option": Case("models --jsno", ("No such option", "--json", "geofilter models")),
    "no model": Case("score data.jsonl", ("--model", "geofilter score --help")),
    "no data": Case(f"score {TINY}", ("Missing argument 'DATA...'",)),
    "unknown scorer": Case(f"{SCORE} --scorer nearst", ("'nearst'", "'nearest'", "'persona'")),
    "unknown proximity": Case(f"{SCORE} --proximity far", ("'far'", "'mean'")),
    "column without a name": Case(f"{SCORE} --column response", ("response=COLUMN",)),
    "column given twice": Case(
        f"{SCORE} --column prompt=a --column prompt=b", ("'prompt' is given twice",)
    ),
    "window of no token": Case(f"{SCORE} --max-length 0", ("--max-length", "0")),
    "no selection": Case(FILTER, ("give one of --drop-fraction, --threshold, --fdr",)),
    "both selections": Case(
        f"{FILTER} --drop-fraction 0.1 --threshold 1", ("give one of --drop-fraction, --threshold",)
    ),
    "an FDR beside a fraction": Case(
        f"{FILTER} --drop-fraction 0.1 --fdr 0.1 --reference other.jsonl", ("give one of",)
    ),
    "an FDR without a reference": Case(f"{FILTER} --fdr 0.1", ("--fdr and --reference",)),
    "a reference without an FDR": Case(
        f"{FILTER} --drop-fraction 0.1 --reference other.jsonl", ("--fdr and --reference",)
    ),
    "a filter without output": Case(
        "filter data.jsonl --scores data.scores.parquet --drop-fraction 0.1", ("'-o' / '--output'",)
    ),
    "a filter without scores and without a list": Case(
        "filter data.jsonl --threshold 0 -o kept.jsonl", ("'--scores'",)
    ),
    "a list that names a row twice": Case(
        "filter data.jsonl --drop-rows list.csv -o kept.jsonl",
        ("list.csv:3: row 1 is listed already, at list.csv:2", "delete one"),
        replace("list.csv", b"row\n1\n1\n"),
    ),
    "a list of a row that is not there": Case(
        "filter data.jsonl --drop-rows list.csv -o kept.jsonl",
        ("list.csv:2: there is no row 40", "rows 0 to 39", "mend the number"),
        replace("list.csv", b"row\n40\n"),
    ),
    "a list of another word": Case(
        "filter data.jsonl --drop-rows list.csv -o kept.jsonl",
        ("list.csv:2: the decision on row 1 is 'no'", "write drop, keep or unsure"),
        replace("list.csv", b"row,decision\n1,no\n"),
    ),
    "a list that is missing": Case(
        "filter data.jsonl --drop-rows no.csv -o kept.jsonl", ("no.csv", "no such file")
    ),
    "a switch without a margin": Case(
        f"{FILTER} --threshold 0 --action switch", ("--action switch needs --margin",)
    ),
    "a margin for rows of one answer": Case(
        f"{FILTER} --margin 0.1", ("no row has a chosen and a rejected answer", "--drop-fraction")
    ),
    "a request without an action that takes it": Case(
        f"{FILTER} --threshold 0 --system x", ("--action drop writes no system turn",)
    ),
    "inoculation by a pack of one's own": Case(
        f"{FILTER} --threshold 0 --action inoculate", ("no sentence is known", "as in --system")
    ),
    "attempts without an action that takes them": Case(
        f"{FILTER} --threshold 0 --attempts 2", ("--action drop writes no responses", "--attempts")
    ),
    "responses by a model that does not chat": Case(
        f"{FILTER} --threshold 0 --action replace", ("has no chat template", "--replace-with")
    ),
    "a curve with an output": Case(f"{FILTER} --curve", ("--curve writes nothing",)),
    "FDR outside 0 to 1": Case(
        f"{FILTER} --fdr 10 --reference other.jsonl", ("FDR 10.0", "between 0 and 1", "such as 0.1")
    ),
    "reference too small for the FDR": Case(
        f"{FILTER} --fdr 0.01 --reference other.jsonl",
        ("40 usable rows is too small for an FDR of 0.01", "1/41", "99 rows", "9,999 to be able"),
    ),
    "reference that is the data": Case(
        f"{FILTER} --fdr 0.1 --reference data.scores.parquet",
        ("no row of the reference is left", "40 occur in the data too"),
    ),
    "reference scored by another scorer": Case(
        f"{FILTER} --fdr 0.1 --reference other.parquet",
        ("other.parquet: is scored otherwise", 'scorer.name: "persona" before, "nearest" now'),
        lambda: score_other("--scorer nearest"),
    ),
    "reference scored in another window": Case(
        f"{FILTER} --fdr 0.1 --reference other.parquet",
        ("other.parquet: is scored otherwise", "window.max_length"),
        lambda: score_other("--max-length 12 --on-error keep"),
    ),
    "reference that is missing": Case(
        f"{FILTER} --fdr 0.1 --reference no.jsonl", ("no.jsonl", "no such file")
    ),
    "reference to be scored with a pack that is gone": Case(
        "filter data.jsonl --scores new.parquet -o kept.jsonl --fdr 0.1 --reference other.jsonl",
        ("my.pack", "no such pack"),
        score_then_remove("my.pack"),
    ),
    "fraction that is no number": Case(f"{FILTER} --drop-fraction half", ("'half'", "valid float")),
    "row that is no number": Case(f"{EXPLAIN} --row one", ("'one'", "integer")),
    # data
    "data missing": Case(f"score no.jsonl {TINY}", ("no.jsonl",)),
    "data of no known format": Case(
        f"score data.txt {TINY} --pack my.pack",
        ("data.txt", ".jsonl"),
        replace("data.txt", b"some text\n"),
    ),
    "empty layout name": Case(f"{SCORE} --layout chat", ("'chat'", "messages")),
    "column that is not there": Case(f"{SCORE} --column response=reply", ("'reply'", "response")),
    "no known columns": Case(
        SCORE, ("data.jsonl:1: malformed", "--on-error keep"), replace("data.jsonl", b'{"a": 1}\n')
    ),
    "row that is no JSON": Case(
        SCORE, ("data.jsonl:41: unreadable", "--on-error keep"), append("data.jsonl", b"{oh\n")
    ),
    "row without response": Case(
        SCORE,
        ("data.jsonl:41: empty", "--on-error keep"),
        append("data.jsonl", b'{"prompt": "w1", "response": ""}\n'),
    ),
    "row whose response is beyond the window": Case(
        f"{SCORE} --max-length 3", ("out_of_window", "window of 3 tokens", "--on-error keep")
    ),
    "cut gzip": Case(
        f"score data.jsonl.gz {TINY} --pack my.pack",
        ("data.jsonl.gz",),
        replace("data.jsonl.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00"),
    ),
    # model, SAE and pack
    "unknown model": Case("score data.jsonl --model organsim", ("'organsim'", "organism")),
    "model folder missing": Case("score data.jsonl --model ./nowhere", ("./nowhere",)),
    "scorer that needs an SAE": Case(
        "score data.jsonl --model model --scorer nearest -o new.parquet",
        ("nearest scores by SAE features", "--scorer persona or spillover", "--sae"),
    ),
    "geometry without an SAE": Case(
        "geometry --inducing data.jsonl --benign other.jsonl --model model -o new",
        ("model is read without an SAE", "--sae"),
    ),
    "trials without an SAE": Case(
        "discover --toxic toxic.jsonl --benign benign.jsonl --model model --falsify -o new.pack",
        ("--falsify tries SAE features", "model is read without an SAE", "--sae"),
    ),
    "pack of an SAE, none loaded": Case(
        "score data.jsonl --model model --pack my.pack -o new.parquet",
        ("made with model and SAE sae", "model without an SAE", "--sae"),
    ),
    "block that the model lacks": Case(
        "score data.jsonl --model model --block 9 -o new.parquet", ("no block 9", "0 to 3")
    ),
    "model folder without a model": Case(
        "score data.jsonl --model sae --sae sae", ("sae", "config.json")
    ),
    "SAE folder missing": Case("score data.jsonl --model model --sae ./no", ("./no",)),
    "SAE cut off": Case(
        SCORE, ("sae_weights.safetensors", "damaged"), cut("sae/sae_weights.safetensors")
    ),
    "model weights cut off": Case(
        SCORE, ("model.safetensors", "damaged"), cut("model/model.safetensors")
    ),
    "block without that SAE": Case(f"{SCORE} --block 0", ("block 1, not block 0",)),
    "window longer than the context": Case(
        f"{SCORE} --max-length 5000", ("5000 tokens", "48", "smaller --max-length")
    ),
    "no contrast sets without a network": Case(
        f"score data.jsonl {TINY} --contrast rtp", ("contrast sets", "--contrast pairs")
    ),
    "pack missing": Case(f"score data.jsonl {TINY} --pack no.pack", ("no.pack: no such pack",)),
    "pack cut off": Case(SCORE, ("my.pack: is damaged",), cut("my.pack")),
    "pack that is some other file": Case(
        f"score data.jsonl {TINY} --pack data.jsonl", ("data.jsonl", "no feature pack")
    ),
    "pack of another SAE": Case(
        "score data.jsonl --model model --sae other-sae --pack my.pack -o new.parquet",
        ("the pack was made with", "block 1, not block 2"),
    ),
    "device that is not there": Case(f"{SCORE} --device abacus", ("'abacus'", "cpu")),
    # names that no file can have
    "pack name too long": Case(f"score data.jsonl {TINY} --pack {LONG}", ("no such pack",)),
    "shown pack's name too long": Case(f"pack show {LONG}", ("no such pack",)),
    "features' name too long": Case(
        f"score data.jsonl --features {LONG} --pack my.pack", ("there is no such file",)
    ),
    "table's name too long": Case(
        f"filter data.jsonl --scores {LONG} --threshold 0 -o kept.jsonl", ("there is no such file",)
    ),
    "model's name too long": Case(f"score data.jsonl --model {LONG}", ("no model is called",)),
    "model folder's name too long": Case(
        f"score data.jsonl --model ./{LONG} --sae sae", ("no such folder",)
    ),
    "SAE's name too long": Case(f"score data.jsonl --model model --sae {LONG}", ("SAE xxx",)),
    # contrast sets
    "contrast sets alike": Case(
        DISCOVER, ("toxic.jsonl", "share 40 rows"), copy("toxic.jsonl", "benign.jsonl")
    ),
    "contrast set too small": Case(
        DISCOVER,
        ("toxic.jsonl: 1 usable", "20"),
        replace("toxic.jsonl", b'{"prompt": "w1", "response": "w2"}\n'),
    ),
    "one of two contrast files": Case(
        "discover --toxic toxic.jsonl --model model --sae sae -o new.pack",
        ("--toxic and --benign, or --contrast",),
    ),
    "contrast in two ways": Case(f"{DISCOVER} --contrast rtp", ("--benign, or --contrast",)),
    "contrast that is no name and no file": Case(
        f"score data.jsonl {TINY} --contrast pair", ("pair: ", "pairs, rtp, hf://ORG/NAME")
    ),
    "contrast next to a pack": Case(f"{SCORE} --contrast rtp", ("contrast rtp", "leave out one")),
    "contrast without pairs": Case(
        "discover --contrast toxic.jsonl --model model --sae sae -o new.pack",
        ("toxic.jsonl: no row holds a usable pair", "chosen (helpful) and rejected (harmful)"),
    ),
    "trial options without trials": Case(f"{DISCOVER} --keep-lexical", ("need --falsify",)),
    "file of polite harm missing": Case(
        f"{DISCOVER} --falsify --polite-harm polite.jsonl", ("polite.jsonl",)
    ),
    # packs
    "pack to show is missing": Case("pack show no.pack", ("no.pack: no such pack",)),
    "pack to push is none": Case("pack push data.jsonl me/x", ("data.jsonl", "no feature pack")),
    "pack pushed to a path": Case("pack push my.pack ../x", ("'../x'", "give ORG/NAME")),
    "pack pushed without a token": Case("pack push my.pack me/x", ("me/x", "hf auth login")),
    "pack pulled over a file": Case("pack pull me/x -o my.pack", ("my.pack: exists already",)),
    "pack of the hub, offline": Case("pack pull me/x -o new.pack", ("me/x", "HF_HUB_OFFLINE")),
    "contrast set missing": Case(DISCOVER, ("toxic.jsonl",), remove("toxic.jsonl")),
    # outputs
    "pack exists": Case(
        DISCOVER.replace("new.pack", "my.pack"), ("my.pack: exists already; remove it",)
    ),
    "table in a folder that is missing": Case(
        SCORE.replace("new.parquet", "no/new.parquet"), ("no/new.parquet", "create the folder")
    ),
    "table would overwrite the data": Case(
        SCORE.replace("new.parquet", "data.jsonl"), ("data.jsonl", "-o")
    ),
    "table would overwrite the data, with restart": Case(
        SCORE.replace("new.parquet", "data.jsonl") + " --restart", ("data.jsonl", "-o")
    ),
    "table made with other settings": Case(
        SCORE.replace("new.parquet", "data.scores.parquet") + " --scorer nearest",
        ("data.scores.parquet", "scorer.name", '"persona" before, "nearest" now', "--restart"),
    ),
    "table of other data in the way": Case(
        SCORE.replace("score data.jsonl", "score other.jsonl").replace("new.", "data.scores."),
        ("data.scores.parquet", "data.sha256", "--restart"),
    ),
    "kept rows exist": Case(
        FILTER.replace("kept.jsonl", "other.jsonl") + " --threshold 0",
        ("other.jsonl: exists already",),
    ),
    "kept rows would overwrite the data": Case(
        FILTER.replace("kept.jsonl", "data.jsonl") + " --threshold 0", ("data.jsonl: ",)
    ),
    "dropped rows exist": Case(
        f"{FILTER} --threshold 0 --dropped other.jsonl", ("other.jsonl: exists already",)
    ),
    "kept and dropped in one file": Case(
        f"{FILTER} --threshold 0 --dropped ./kept.jsonl", ("-o and --dropped name the same file",)
    ),
    "kept rows in another format": Case(
        FILTER.replace("kept.jsonl", "kept.parquet") + " --threshold 0", ("kept.parquet", "jsonl")
    ),
    "dropped rows in another format": Case(
        f"{FILTER} --threshold 0 --dropped dropped.csv", ("dropped.csv", "jsonl")
    ),
    "folder that cannot be written": Case(
        FILTER.replace("kept.jsonl", "/proc/kept.jsonl") + " --threshold 0", ("/proc/kept.jsonl",)
    ),
    # tables
    "table missing": Case(
        FILTER.replace("data.scores", "no") + " --threshold 0", ("no.parquet", "geofilter score")
    ),
    "table cut off": Case(
        f"{FILTER} --threshold 0", ("data.scores.parquet",), cut("data.scores.parquet")
    ),
    "table that is some other file": Case(
        FILTER.replace("data.scores.parquet", "other.jsonl") + " --threshold 0", ("other.jsonl",)
    ),
    "table of other data": Case(
        FILTER.replace("filter data.jsonl", "filter other.jsonl") + " --threshold 0",
        ("data.scores.parquet: was made from other data (data.jsonl)", "other.jsonl"),
    ),
    "data changed since": Case(
        f"{FILTER} --threshold 0", ("has changed since",), append("data.jsonl", b"\n\n")
    ),
    "fraction above 1": Case(f"{FILTER} --drop-fraction 1.5", ("1.5", "between 0 and 1")),
    "fraction below 0": Case(f"{FILTER} --drop-fraction -0.1", ("-0.1", "between 0 and 1")),
    "fraction NaN": Case(f"{FILTER} --drop-fraction nan", ("nan", "between 0 and 1")),
    "threshold NaN": Case(f"{FILTER} --threshold nan", ("nan", "not a number")),
    "row beyond the end": Case(f"{EXPLAIN} --row 40", ("row 40", "rows 0 to 39")),
    "row below 0": Case(f"{EXPLAIN} --row -1", ("row -1", "rows 0 to 39")),
    "report with two choices": Case(
        REPORT + " --drop-fraction 0.1 --threshold 0.2",
        ("give one of --drop-fraction, --threshold and --fdr, or none",),
    ),
    "report --fdr alone": Case(REPORT + " --fdr 0.1", ("--fdr and --reference go together",)),
    "report by no column": Case(
        REPORT + " --by topics", ("data.jsonl: no row has a column topics; give --by a column",)
    ),
    "report with a baseline of other data": Case(
        REPORT + " --baseline other.parquet",
        ("other.parquet: was made from other data than", "score the same data"),
        lambda: score_other(""),
    ),
    "report over a file": Case(
        REPORT, ("new.html: exists already; remove it",), replace("new.html", b"x")
    ),
    "explain other data": Case(
        EXPLAIN.replace("explain data.jsonl", "explain other.jsonl") + " --row 0",
        ("was made from other data",),
    ),
    "explain with the pack gone": Case(
        EXPLAIN.replace("data.scores", "new") + " --row 0",
        ("my.pack: no such pack",),
        score_then_remove("my.pack"),
    ),
    "explain with the model gone": Case(
        EXPLAIN.replace("data.scores", "new") + " --row 0",
        ("config.json",),
        score_then_remove("model/config.json"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(name, work, geofilter, capsys):
    assert_refused(CASES[name], geofilter, capsys)
