"""`hf://` names read, scored, filtered and contrasted through a hub on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from geofilter.packs.pack import load_pack
from helpers.cli_folder import Outcome
from helpers.fresh_process import WarmProcess
from helpers.hub_chat import parquet
from helpers.loopback_hub import TOKEN, LoopbackHub

pytestmark = pytest.mark.slow

DATA = "datasets/org/rows"
PREFERENCES = "datasets/org/preferences"
SCORED = "--model model --sae sae --pack my.pack"


def refused(done: Outcome, *expected: str) -> None:
    """The command failed with one line on standard error, which holds all that is expected."""
    assert done.code == 2, done.err
    (line,) = done.err.splitlines()
    for part in ("geofilter: error: ", *expected):
        assert part in line


def preferences() -> list[dict[str, str]]:
    return [
        {"prompt": f"w{n} w{n + 1}", "chosen": f"w{n + 20} w2", "rejected": f"w{n + 9} w3 w4"}
        for n in range(30)
    ]


@pytest.fixture(scope="module")
def hub(scored_folder: Path) -> Iterator[LoopbackHub]:
    data, other = (scored_folder / f"{name}.jsonl" for name in ("data", "other"))
    repositories = {
        DATA: {"train.jsonl": data, "test.jsonl": other, "more/extra.jsonl": other},
        "datasets/org/gated": {"train.jsonl": data},
        "datasets/org/down": {"train.jsonl": data},
        PREFERENCES: {
            "data/train-00000-of-00001.parquet": parquet(preferences()),
            "data/test-00000-of-00001.parquet": parquet(preferences()[::-2]),
        },
    }
    with LoopbackHub(repositories, gated=("datasets/org/gated",)) as server:
        yield server


@pytest.fixture
def command(
    hub: LoopbackHub, scored_folder: Path, tmp_path_factory: pytest.TempPathFactory, work: Path
) -> Iterator[WarmProcess]:
    """A process in a copy of the folder with a tiny model, SAE and pack."""
    process = WarmProcess(work, hub.environment(tmp_path_factory.mktemp("home")))
    yield process
    process.close()


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_of_the_hub_are_scored_and_split_like_a_file(
    hub: LoopbackHub, command: WarmProcess, work: Path
) -> None:
    name = f"hf://{DATA}"
    assert command(f"score {name} {SCORED} -o hub.parquet").code == 0
    assert command(f"score data.jsonl {SCORED} -o file.parquet").code == 0
    for data, table in ((name, "hub"), ("data.jsonl", "file")):
        split = f"--drop-fraction 0.3 -o {table}-kept.jsonl --dropped {table}-dropped.jsonl"
        done = command(f"filter {data} --scores {table}.parquet {split}")
        assert done.code == 0, done.err
    assert records(work / "hub-kept.jsonl") == records(work / "file-kept.jsonl")
    dropped = records(work / "hub-dropped.jsonl")
    assert len(dropped) == 12
    assert dropped == records(work / "file-dropped.jsonl")

    # A split, a file, and a revision: all other names for content of the same commit.
    commit = hub.repositories[DATA].commit
    for place, table in (("#test", "a"), ("/more/extra.jsonl", "b"), (f"@{commit}#test", "c")):
        done = command(f"score {name}{place} {SCORED} -o {table}.parquet")
        assert done.code == 0, done.err
    done = command(f"filter {name}#test --scores a.parquet --drop-fraction 0.5 -o half.jsonl")
    assert done.code == 0, done.err
    others = records(work / "other.jsonl")
    assert len(kept := records(work / "half.jsonl")) == 20
    assert all(row in others for row in kept)

    # Another commit is other data, which the table was not made from.
    hub.repositories[DATA].put("train.jsonl", (work / "other.jsonl").read_bytes())
    done = command(f"filter {name} --scores hub.parquet --drop-fraction 0.5 -o late.jsonl")
    refused(done, name, "has changed since")
    assert not (work / "late.jsonl").exists()


def test_a_preference_set_of_the_hub_makes_the_pack_that_its_rows_make(
    command: WarmProcess, work: Path
) -> None:
    def discover(contrast: str, pack: str = "no.pack") -> Outcome:
        return command(f"discover --contrast {contrast} --model model --sae sae -o {pack}")

    rows = "".join(json.dumps(row) + "\n" for row in preferences())
    (work / "preferences.jsonl").write_text(rows)
    packs = []
    for place in ("preferences.jsonl", "hf://org/preferences", f"hf://{PREFERENCES}#train"):
        done = discover(place, f"{len(packs)}.pack")
        assert done.code == 0, done.err
        packs.append(load_pack(work / f"{len(packs)}.pack"))
    for pack in packs:
        np.testing.assert_array_equal(pack.ids, packs[0].ids)
        np.testing.assert_array_equal(pack.dense_direction, packs[0].dense_direction)
    toxic = packs[1].provenance["toxic"]
    assert (toxic["dataset"], toxic["rows"]) == (f"hf://{PREFERENCES}", 30)
    few = "hf://datasets/org/preferences#test: 15 usable distinct pairs"
    refused(discover("hf://org/preferences#test"), few)
    refused(discover("hf://org/nowhere"), "no such data set", "--contrast pairs needs no network")


def test_data_sets_that_are_unavailable_are_refused_at_once(
    hub: LoopbackHub, command: WarmProcess
) -> None:
    def score(name: str, token: str | None = None) -> Outcome:
        return command(f"score hf://datasets/{name} {SCORED} -o x.parquet", HF_TOKEN=token)

    done = score("org/nowhere")
    nowhere = "hf://datasets/org/nowhere: cannot be read from the hub: there is no such data set"
    refused(done, nowhere)
    refused(score("org/rows@old"), "has no such revision")
    refused(score("org/rows#dev"), "no split 'dev'; choose from train, test")
    refused(score("org/rows/gone.jsonl"), "gone.jsonl")
    refused(score("org/gated"), "gated", f"{hub.endpoint}/datasets/org/gated", "`hf auth login`")
    assert score("org/gated", TOKEN).code == 0
    start = monotonic()
    with hub.fail("org/down", 503):
        refused(score("org/down"), "error 503", "try again later")
    with hub.fail("org/down", "drop"):
        refused(score("org/down"), "cannot be reached", "check the network")
    assert monotonic() - start < 10
