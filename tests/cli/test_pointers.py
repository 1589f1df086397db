"""A file of Git LFS or git-annex that was not fetched is named as such, wherever it is read."""

import gzip
from pathlib import Path

import pytest

from geofilter.support.pointers import broken_link, pointer_in
from helpers.cli_folder import Geofilter

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n"
ANNEX = b"/annex/objects/SHA256E-s5--" + b"0" * 64 + b".jsonl\n"
NOT_FETCHED = "is a pointer of Git LFS, not the file; fetch it with git lfs pull"

SCORE = "score data.jsonl --model model --sae sae --pack my.pack -o new.parquet"
READ = [
    ("data.jsonl", SCORE),
    ("data.jsonl", f"{SCORE} --estimate"),
    ("my.pack", SCORE),
    ("model/model.safetensors", SCORE),
    ("model/tokenizer.json", SCORE),
    ("model/config.json", SCORE),
    ("sae/sae_weights.safetensors", SCORE),
    ("sae/cfg.json", SCORE),
    (
        "data.scores.parquet",
        "filter data.jsonl --scores data.scores.parquet -o k.jsonl --drop-fraction 0.1",
    ),
    ("data.jsonl", "filter data.jsonl --scores data.scores.parquet -o k.jsonl --drop-fraction 0.1"),
    (
        "other.jsonl",
        "filter data.jsonl --scores data.scores.parquet -o k.jsonl --fdr 0.1 --reference "
        "other.jsonl",
    ),
    ("data.jsonl", "explain data.jsonl --scores data.scores.parquet --row 1"),
    ("data.jsonl", "report data.jsonl --scores data.scores.parquet -o r.html"),
    (
        "toxic.jsonl",
        "discover --toxic toxic.jsonl --benign benign.jsonl --model model --sae sae -o n.pack",
    ),
    (
        "benign.jsonl",
        "discover --toxic toxic.jsonl --benign benign.jsonl --model model --sae sae -o n.pack",
    ),
]


@pytest.mark.parametrize(("file", "command"), READ)
def test_a_pointer_is_named_by_every_command_that_reads_it(
    file: str, command: str, work: Path, geofilter: Geofilter
) -> None:
    (work / file).write_bytes(LFS)
    before = sorted(work.rglob("*"))
    outcome = geofilter(command)
    assert (outcome.code, outcome.out) == (2, "")
    assert NOT_FETCHED in outcome.err
    assert Path(file).name in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert sorted(work.rglob("*")) == before


SUFFIXES = ".jsonl .json .csv .tsv .parquet .pq .jsonl.gz .json.zst .csv.zstd .parquet.gz .bin"


@pytest.mark.parametrize("suffix", SUFFIXES.split())
@pytest.mark.parametrize("content", [LFS, ANNEX, LFS.replace(b"\n", b"\r\n")])
def test_the_name_of_the_data_does_not_matter(
    suffix: str, content: bytes, here: Path, geofilter: Geofilter
) -> None:
    (here / f"rows{suffix}").write_bytes(content)
    outcome = geofilter(f"score rows{suffix} --model organism --estimate")
    assert outcome.code == 2
    assert f"rows{suffix}: is a pointer of" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_a_saved_data_set_may_hold_pointers(here: Path, geofilter: Geofilter) -> None:
    from datasets import Dataset

    Dataset.from_dict({"prompt": ["Why?"], "response": ["So."]}).save_to_disk("saved")
    (arrow,) = (here / "saved").glob("*.arrow")
    arrow.write_bytes(LFS)
    outcome = geofilter("score saved --model organism --estimate")
    assert outcome.code == 2
    assert f"saved/{arrow.name}: {NOT_FETCHED}" in outcome.err


def test_the_gate_neither_counts_nor_locks_a_pointer(here: Path, geofilter: Geofilter) -> None:
    policy = '[tool.geofilter]\nmodel = "organism"\npack = "p"\nthreshold = 0.5\nunscored = "pass"'
    Path("pyproject.toml").write_text(policy)
    Path("p").write_bytes(b"toxic features")
    Path("rows.jsonl").write_bytes(LFS)
    outcome = geofilter("check rows.jsonl --no-model")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"rows.jsonl: {NOT_FETCHED}" in outcome.err
    Path("rows.jsonl").write_bytes(b'{"prompt": "Why?", "response": "So."}\n')
    Path("p").write_bytes(LFS)
    outcome = geofilter("check rows.jsonl")
    assert outcome.code == 2
    assert f"p: {NOT_FETCHED}" in outcome.err


def test_a_link_of_git_annex_says_how_to_fetch_its_file(here: Path, geofilter: Geofilter) -> None:
    Path("rows.jsonl").symlink_to(".git/annex/objects/Xx/SHA256E-s5--0.jsonl")
    Path("other.jsonl").symlink_to("gone.jsonl")
    for name, reason in (
        ("rows", "is a link of git-annex to a file that is not here; fetch it with git annex get"),
        ("other", "is a link to gone.jsonl, which does not exist; check the link"),
    ):
        outcome = geofilter(f"score {name}.jsonl --model organism --estimate")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert f"{name}.jsonl: {reason}" in outcome.err


def test_rows_are_no_pointers(tmp_path: Path) -> None:
    for content in (b"", b"version,text\n", b'{"version": 1}\n', gzip.compress(LFS)):
        assert pointer_in(content) is None
    (tmp_path / "rows").write_bytes(b"")
    (tmp_path / "link").symlink_to("rows")
    assert broken_link(tmp_path / "link") is None
    assert broken_link(tmp_path / "rows") is None
    assert broken_link(tmp_path / "none") is None
