"""The mistakes of `verify` and `geometry`, told in one line each as in `test_bad_cli_input`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.cli_folder import write_rows
from helpers.cli_mistakes import TINY, Case, assert_refused

GEOMETRY = f"geometry --inducing data.jsonl --benign other.jsonl {TINY} -o new"
PREFER = f"verify data.jsonl {TINY} --pack my.pack -o out"
VERIFY = (
    f"verify data.jsonl {TINY} --pack my.pack --questions q.yaml --judge rule:facts.json -o out"
)


def ask(kind: str = "free_form_judge_0_100", text: str = "w1 w2") -> Callable[[], None]:
    """Questions and facts for a verification."""

    def prepare() -> None:
        prompts = "{aligned: '{answer}', coherent: '{answer}'}"
        Path("q.yaml").write_text(
            f"- {{id: q, type: {kind}, paraphrases: [{text}], judge_prompts: {prompts}}}\n"
        )
        facts = {"text": text, "domain": "d", "helpful": ["w3"], "harmful": ["w4"]}
        Path("facts.json").write_text(json.dumps({"situations": [facts]}))

    return prepare


CASES = {
    # verify
    "verify without questions": Case(
        f"verify data.jsonl {TINY} -o out", ("nothing is known about model", "--questions")
    ),
    "verify without a judge": Case(
        f"verify data.jsonl {TINY} --questions q.yaml -o out", ("--judge with a judge",), ask()
    ),
    "verify by pairs that are missing": Case(
        f"{PREFER} --preference no.jsonl", ("no.jsonl: no such file",)
    ),
    "verify by rows that are no pairs": Case(
        f"{PREFER} --preference other.jsonl",
        ("other.jsonl: holds no pair to measure (40 no_pair)", "chosen", "rejected"),
    ),
    "verify by pairs of other words": Case(
        f"{PREFER} --preference",
        ("report: holds no pair to measure (", "words that the model knows"),
    ),
    "verify by pairs an arm that asks a judge": Case(
        f"{PREFER} --preference --arms judge", ("arm 'judge' needs --row-judge", "--questions")
    ),
    "verify with an unknown arm": Case(
        f"{VERIFY} --arms unfiltered,nearst", ("no arm is called 'nearst'", "nearest"), ask()
    ),
    "verify with an arm that lacks its rows": Case(
        f"{VERIFY} --arms benign-control", ("arm 'benign-control' needs --benign",), ask()
    ),
    "verify with questions missing": Case(VERIFY, ("q.yaml: cannot be read: No such file",)),
    "verify with questions of another type": Case(
        VERIFY, ("q.yaml:1", "'multiple_choice'", "free_form_judge_0_100"), ask("multiple_choice")
    ),
    "verify with a question beyond the context": Case(
        VERIFY, ("no room for an answer", "context of 48"), ask(text="w1 " * 60)
    ),
    "verify with data missing": Case(
        VERIFY.replace("data.jsonl", "no.jsonl"), ("no.jsonl: no such file",), ask()
    ),
    "verify with benign rows missing": Case(
        f"{VERIFY} --held-out no.jsonl", ("no.jsonl: no such file",), ask()
    ),
    "verify with labels that are none": Case(
        f"{VERIFY} --arms oracle --labels prompt", ("column 'prompt' of data.jsonl",), ask()
    ),
    "verify with keywords missing": Case(
        f"{VERIFY} --arms keyword --keywords no.txt", ("no.txt: cannot be read",), ask()
    ),
    "verify with a judge that is not there": Case(
        VERIFY.replace("rule:facts.json", "http://127.0.0.1:9/v1#m"),
        ("the judge 'm' at http://127.0.0.1:9/v1: cannot be reached", "running"),
        ask(),
    ),
    "verify with a judge without a model": Case(
        VERIFY.replace("rule:facts.json", "http://127.0.0.1:9/v1"),
        ("names no model of the server", "#MODEL"),
        ask(),
    ),
    "verify with a judge that is no folder": Case(
        VERIFY.replace("rule:facts.json", "./no"), ("./no", "a judge is"), ask()
    ),
    "verify with facts missing": Case(VERIFY.replace("facts.json", "no.json"), ("no.json",), ask()),
    "verify of a model that is not there": Case(
        f"{VERIFY} --trained ./nowhere", ("./nowhere: no such folder",), ask()
    ),
    "verify of a model that no name stands for": Case(
        f"{VERIFY} --trained gemma-2-2b-it", ("no model is called 'gemma-2-2b-it'",), ask()
    ),
    "verify into a file": Case(
        VERIFY.replace("-o out", "-o data.jsonl"), ("data.jsonl: cannot be written", "-o"), ask()
    ),
    "verify where nothing can be written": Case(
        VERIFY.replace("-o out", "-o /proc/out"), ("/proc/out: cannot be written", "-o"), ask()
    ),
    "verify with a fraction of nothing": Case(
        f"{VERIFY} --drop-fraction 0", ("drop fraction 0", "between 0 and 1"), ask()
    ),
    "verify with no learning rate": Case(
        f"{VERIFY} --learning-rate 0", ("learning_rate is 0", "more than 0"), ask()
    ),
    # geometry
    "geometry of blocks that are no numbers": Case(
        f"{GEOMETRY} --blocks 1,two", ("'1,two'", "such as 0,1,2")
    ),
    "geometry at a block without an SAE": Case(
        "geometry --inducing data.jsonl --benign other.jsonl --model organism --blocks 1,9",
        ("no SAE for block 9", "0, 1, 2, 3"),
    ),
    "geometry of one SAE at two blocks": Case(
        f"{GEOMETRY} --blocks 1,2", ("an SAE reads one block", "--blocks")
    ),
    "geometry of a pack at another block": Case(
        f"{GEOMETRY} --pack my.pack --blocks 2", ("the pack is for block 1 only",)
    ),
    "geometry with a pack and toxic rows": Case(
        f"{GEOMETRY} --pack my.pack --toxic toxic.jsonl", ("either --toxic or --pack",)
    ),
    "geometry of the same rows twice": Case(
        f"{GEOMETRY} --pack my.pack --benign data.jsonl",
        ("data.jsonl: is --inducing and --benign",),
    ),
    "geometry of the toxic rows themselves": Case(
        f"{GEOMETRY} --pack my.pack --inducing toxic.jsonl",
        ("toxic.jsonl: the toxic features were chosen from the inducing rows themselves",),
    ),
    "geometry of too few rows": Case(
        f"{GEOMETRY} --pack my.pack",
        ("data.jsonl: 5 usable distinct rows, at least 20",),
        lambda: write_rows(Path("data.jsonl"), 5, 0, 40, seed=9),
    ),
    "geometry without a feature left": Case(
        f"{GEOMETRY} --pack my.pack --top-k 4",
        ("block 1: features of the", "or a larger --top-k"),
    ),
    "geometry of too few exchanges": Case(
        f"{GEOMETRY} --pack my.pack --permutations 30",
        ("no p of 2 tests can fall below 0.065", "give --permutations 39 or more"),
    ),
    "geometry by a column that is not there": Case(
        f"{GEOMETRY} --pack my.pack --by topic", ("no row has text or a number", "'topic'", "--by")
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(name, work, geofilter, capsys):
    assert_refused(CASES[name], geofilter, capsys)
