"""The commands on a GGUF file: scored like any model, and never with another one's pack."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geofilter.packs.pack import load_pack
from geofilter.runs.identity import identify
from geofilter.settings import Settings
from helpers.gguf_files import network, write_gguf

pytestmark = pytest.mark.slow

EXACT = "--model exact.gguf --sae axes/3"
ROUNDED = "--model ./rounded.gguf --sae axes/3"


def write_rows(name: str, letters: str, seed: int, rows: int = 40) -> None:
    generator = random.Random(seed)

    def words() -> str:
        return " ".join("".join(generator.choices(letters, k=3)) for _ in range(5))

    lines = [{"prompt": words(), "response": words()} for _ in range(rows)]
    Path(name).write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = network("llama")
    write_gguf(tmp_path / "exact.gguf", "llama", source)
    write_gguf(tmp_path / "rounded.gguf", "llama", source, "Q4_1")
    write_rows("toxic.jsonl", "abcdefgh", 1)
    write_rows("benign.jsonl", "stuvwxyz", 2)
    write_rows("data.jsonl", "abcdstuvwxyz", 3)
    return tmp_path


def test_a_file_is_scored_with_its_own_pack_and_no_other(folder, geofilter):
    sets = "--toxic toxic.jsonl --benign benign.jsonl"
    for name, model in (("exact", EXACT), ("rounded", ROUNDED)):
        done = geofilter(f"discover {sets} {model} -o {name}.pack")
        assert done.code == 0, done.err
        scored = geofilter(f"score data.jsonl {model} --pack {name}.pack -o {name}.parquet")
        assert scored.code == 0, scored.err
    assert load_pack("exact.pack").model_name == "exact.gguf (F32)"
    assert load_pack("rounded.pack").model_name == "./rounded.gguf (Q4_1)"
    tables = [pq.read_table(f"{name}.parquet") for name in ("exact", "rounded")]
    scores = [table.column("score").to_pylist() for table in tables]
    assert None not in scores[0] + scores[1]
    assert scores[0] != scores[1]

    refused = geofilter(f"score data.jsonl {ROUNDED} --pack exact.pack -o other.parquet")
    assert refused.code == 2
    (line,) = [line for line in refused.err.splitlines() if "error" in line]
    assert "the pack was made with exact.gguf (F32)" in line
    assert "does not belong to ./rounded.gguf (Q4_1)" in line

    assert geofilter("explain data.jsonl --scores rounded.parquet --row 0").code == 0
    assert geofilter(f"score data.jsonl {ROUNDED} --estimate").code == 0
    pushed = f"score data.jsonl {ROUNDED} --pack rounded.pack --scorer spillover -o push.parquet"
    assert geofilter(pushed).code == 0


def test_another_file_under_the_same_name_is_another_identity(folder, geofilter):
    sets = "--toxic toxic.jsonl --benign benign.jsonl"
    assert geofilter(f"discover {sets} {EXACT} -o exact.pack").code == 0
    settings = Settings(model="exact.gguf", sae="axes/3", pack="exact.pack")
    before = identify(settings)
    Path("notes.txt").write_text("next to it")
    assert identify(settings) == before
    Path("rounded.gguf").rename("exact.gguf")
    assert {part for part, was in identify(settings).items() if was != before[part]} == {"model"}
