"""Files of any name are read and written; what cannot be opened is named in one line."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from geofilter.scoring.table import ScoreTable
from geofilter.support.display import argument
from helpers.cli_folder import Geofilter

# As the operating system hands them to Python: a byte that is no UTF-8 is a lone surrogate.
NAMES = {
    "no UTF-8": os.fsdecode(b"caf\xe9 \"a\" 'b'") + os.fsdecode("😀".encode()[:-1]),
    "hidden": "--help\n\x1b[31m\u202elosj\x07",
    "shown": "[😀]*? x%41#y&z=1",
    "long": "漢" * 70,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_file_of_any_name_goes_through_every_command(
    name: str, work: Path, geofilter: Geofilter
) -> None:
    def run(*words: str, code: int = 0) -> None:
        outcome = geofilter(*words)
        assert outcome.code == code, outcome.err
        said = outcome.out + outcome.err
        assert all(c.isprintable() or c == "\n" for c in said)
        assert name.isprintable() or name not in said
        said.encode()

    data, table, kept = f"./{name}.jsonl", f"./{name}.jsonl.scores.parquet", f"./{name}.k.jsonl"
    pack = f"./{name}.pack"
    os.rename("data.jsonl", data)
    os.rename("my.pack", pack)
    score = ("score", data, *["--model", "model", "--sae", "sae", "--pack"], pack)
    run(*score)
    run(*score, "-o", f"./{name}.2", "--save-features", f"./{name}.f", "--json")
    filtered = ("filter", data, "--scores", table, "--drop-fraction", "0.5")
    run(*filtered, "-o", kept, "--dropped", f"./{name}.d.jsonl")
    run(*filtered, "-o", f"{kept}.gz", "--json")
    run(*filtered, "-o", f"{kept}2.jsonl", "--action", "review", "--review", f"./{name}.csv")
    run("explain", data, "--scores", table, "--row", "1")
    run("report", data, "--scores", table, "-o", f"./{name}.html")
    run("pack", "show", pack)
    assert len(ScoreTable.read(table)) == 40
    assert len(Path(kept).read_bytes().splitlines()) == 20

    shutil.copy(pack, "plain.pack")  # a policy is TOML, in which not every name can be written
    Path("pyproject.toml").write_text(
        '[tool.geofilter]\nmodel = "./model"\nsae = "./sae"\npack = "plain.pack"\nthreshold = -2\n'
    )
    run("check", data, code=1)
    for form in ("text", "github", "sarif", "junit"):
        run("check", data, "--no-model", "--format", form, code=1)
    run("check", "--no-model", "--accept", f"{data}:1", code=1)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_in_a_command_can_be_typed(name: str) -> None:
    typed = subprocess.run(["bash", "-c", f"printf %s {argument(name)}"], capture_output=True)
    assert typed.stdout == os.fsencode(name)
    assert argument(name).isprintable()


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl.gz", "json"])
def test_every_format_may_have_such_a_name(format: str, work: Path, geofilter: Geofilter) -> None:
    import gzip

    import pandas as pd

    frame = pd.DataFrame({"prompt": ["w1 w2", "w3"], "response": ["w9 w30 w41", "w50 w12"]})
    name = os.fsdecode(b"caf\xe9." + format.encode())
    plain = frame.to_json(orient="records")
    contents = {
        "csv": lambda: frame.to_csv(index=False).encode(),
        "json": plain.encode,
        "jsonl.gz": lambda: gzip.compress(frame.to_json(orient="records", lines=True).encode()),
    }
    if format == "parquet":
        frame.to_parquet("plain.parquet")
        os.rename("plain.parquet", name)
    else:
        Path(name).write_bytes(contents[format]())
    made = ("--model", "model", "--sae", "sae", "--pack", "my.pack")
    assert geofilter("score", name, *made).code == 0
    table = f"{name}.scores.parquet"
    kept = os.fsdecode(b"k\xe9." + format.encode())
    outcome = geofilter("filter", name, "--scores", table, "--drop-fraction", "0.5", "-o", kept)
    assert (outcome.code, Path(kept).exists()) == (0, True)


def test_what_a_library_does_not_open_is_named(work: Path, geofilter: Geofilter) -> None:
    from datasets import Dataset

    odd = os.fsdecode(b"caf\xe9")
    Dataset.from_dict({"prompt": ["w1 w2"], "response": ["w9 w30"]}).save_to_disk("saved")
    assert geofilter("score saved --model model --sae sae --pack my.pack").code == 0
    filtered = ("filter", "saved", "--scores", "saved.scores.parquet", "--drop-fraction", "0.5")
    outcomes = [geofilter(*filtered, "-o", odd)]
    os.rename("saved", odd)
    outcomes.append(geofilter("score", odd, *["--model", "organism", "--estimate"]))
    os.rename(odd, "saved")
    for folder, option in (("model", "--model"), ("sae", "--sae")):
        os.rename(folder, odd)
        words = f"score data.jsonl --model model --sae sae --pack my.pack -o n {option}".split()
        outcomes.append(geofilter(*words, odd))
        os.rename(odd, folder)
    for outcome in outcomes:
        assert outcome.code == 2
        assert outcome.err.endswith(
            "caf\\udce9: its name is not UTF-8, and cannot be opened; rename it\n"
        )


def test_an_output_whose_name_is_too_long_is_refused_before_scoring(
    work: Path, geofilter: Geofilter
) -> None:
    name = "y" * 248 + ".jsonl"
    os.rename("data.jsonl", name)
    outcome = geofilter("score", name, *["--model", "model", "--sae", "sae", "--pack", "my.pack"])
    assert (outcome.code, outcome.out) == (2, "")
    assert "cannot be written: File name too long; choose another output" in outcome.err
