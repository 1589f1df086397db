"""A first use with nothing prepared: models, SAEs and contrast sets come from a hub.

The hub is a real server on loopback with small repositories under the real ids.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cli_folder import Outcome
from fresh_process import type_command
from hub_repos import DATASET, GATED, MODELS, data_rows, toxicity_prompts
from hub_saes import gemma_scope, gpt_oss_sae, llama_scope
from loopback_hub import TOKEN, Content, LoopbackHub
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from geofilter.catalogue import CATALOGUE
from geofilter.pack import load_pack

# The largest first: it takes as long as the others together.
NAMES = ["gemma-2-27b", "gemma-2-2b", "gemma-2-9b", "llama-3.1-8b", "gpt-oss-20b"]


def sae_repository(name: str, folder: Path) -> tuple[str, dict[str, Content]]:
    """The hub repository of a model's default SAE, as sae-lens's directory names it."""
    entry = CATALOGUE[name]
    block = entry.default_block
    release, _, sae = entry.sae[block].partition("/")
    listed = get_pretrained_saes_directory()[release]
    path = listed.saes_map[sae]
    if name.startswith("gemma"):
        size = name.removeprefix("gemma-2-")
        return listed.repo_id, gemma_scope(path, size, folder / f"{name}.npz")
    if name.startswith("llama"):
        return listed.repo_id, llama_scope(path, block, listed.norm_scaling_factor[sae])
    return listed.repo_id, gpt_oss_sae(path, block)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    folder = tmp_path_factory.mktemp("repositories")
    repositories: dict[str, dict[str, Content]] = {
        DATASET: {"prompts.jsonl": toxicity_prompts(ends=11)}
    }
    repositories |= {repo: build() for repo, build in MODELS.items()}
    repositories |= dict(sae_repository(name, folder) for name in NAMES)
    with LoopbackHub(repositories, gated=GATED) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with nothing in it but the data."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "data.jsonl").write_bytes(data_rows())
    return folder


@pytest.fixture(scope="module")
def runs(hub: LoopbackHub, home: Path) -> Iterator[dict[str, Future[Outcome]]]:
    """`geofilter score data.jsonl --model NAME` for every name, two at a time."""

    def score(name: str) -> Outcome:
        folder = home / name
        folder.mkdir()
        (folder / "data.jsonl").symlink_to(home / "data.jsonl")
        variables = hub.environment(folder, TOKEN)
        return type_command(f"score data.jsonl --model {name}", folder, variables)

    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(score, name) for name in NAMES}


def weights_needed(files: dict[str, Content], block: int) -> tuple[set[str], set[str]]:
    """The weight files that hold the embedding and blocks 0..block, and all the others."""
    index: Any = files["model.safetensors.index.json"]
    needed = set()
    for tensor, file in json.loads(index)["weight_map"].items():
        number = re.match(r"model\.layers\.(\d+)\.", tensor)
        if tensor == "model.embed_tokens.weight" or (number and int(number[1]) <= block):
            needed.add(file)
    weights = {file for file in files if file.endswith((".safetensors", ".bin", ".pth"))}
    return needed, weights - needed


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_the_catalogue_scores_as_typed_and_fetches_no_later_block(
    name: str, hub: LoopbackHub, home: Path, runs: dict[str, "Future[Outcome]"]
) -> None:
    done = runs[name].result()
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    table = pq.read_table(home / name / "data.jsonl.scores.parquet")
    scores = table.column("score").to_pylist()
    assert len(scores) == 4
    assert None not in scores
    assert len(set(scores)) > 1

    entry = CATALOGUE[name]
    fetched = hub.fetched(entry.model)
    needed, others = weights_needed(hub.repositories[entry.model].files, entry.default_block)
    assert others, "the test needs shards that nobody should want"
    weights = {file for file in fetched if file in needed | others}
    assert weights == needed
    assert len(fetched) == len(set(fetched)), "nothing is fetched twice"


@pytest.mark.parametrize("name", ["llama-3.1-8b"])
def test_the_pack_records_where_its_rows_come_from_and_is_made_once(
    name: str, hub: LoopbackHub, home: Path, runs: dict[str, "Future[Outcome]"]
) -> None:
    assert runs[name].result().code == 0
    (path,) = (home / name / "cache" / "geofilter" / "packs").iterdir()
    made, pack = path.stat().st_mtime_ns, load_pack(path)
    toxic, benign = pack.provenance["toxic"], pack.provenance["benign"]
    for side in (toxic, benign):
        assert side["dataset"] == "allenai/real-toxicity-prompts"
        assert side["revision"] == hub.repositories[DATASET].commit
        assert side["skipped"] == {"no_toxicity": 10}
        assert side["rows"] == 22
    assert (toxic["toxicity_from"], benign["toxicity_to"]) == (0.75, 0.1)

    before = len(hub.log)
    variables = hub.environment(home / name, TOKEN)
    again = type_command(
        f"score data.jsonl --model {name} -o again.parquet", home / name, variables
    )
    assert again.code == 0, again.err
    later = {request.repo for request in hub.log[before:] if request.method == "GET"}
    assert later <= {None}, "everything was in the cache"
    assert path.stat().st_mtime_ns == made
    tables = [home / name / file for file in ("data.jsonl.scores.parquet", "again.parquet")]
    first, second = (pq.read_table(file).column("score").to_pylist() for file in tables)
    assert first == second
