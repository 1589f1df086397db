"""A first use with nothing prepared: models, SAEs and contrast sets come from a hub.

The hub is a real server on loopback with small repositories under the real ids.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from geofilter.model.catalogue import CATALOGUE
from geofilter.packs.pack import load_pack
from helpers.cli_folder import Outcome
from helpers.fresh_process import WarmProcess
from helpers.hub_repos import DATASET, GATED, MODELS, data_rows, toxicity_prompts
from helpers.hub_saes import gemma_scope, gpt_oss_sae, llama_scope
from helpers.loopback_hub import TOKEN, Content, LoopbackHub

pytestmark = pytest.mark.slow

# Contrast sets that are fetched too.
SETS = "--contrast rtp"
NAMES = ["gemma-2-2b", "gemma-2-9b", "gemma-2-27b", "llama-3.1-8b", "gpt-oss-20b"]


def sae_repository(name: str) -> tuple[str, dict[str, Content]]:
    """The hub repository of a model's default SAE, as sae-lens's directory names it."""
    entry = CATALOGUE[name]
    block = entry.default_block
    release, _, sae = entry.sae[block].partition("/")
    listed = get_pretrained_saes_directory()[release]
    path = listed.saes_map[sae]
    if name.startswith("gemma"):
        return listed.repo_id, gemma_scope(path)
    if name.startswith("llama"):
        return listed.repo_id, llama_scope(path, block, listed.norm_scaling_factor[sae])
    return listed.repo_id, gpt_oss_sae(path, block)


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    repositories: dict[str, dict[str, Content]] = {
        DATASET: {"prompts.jsonl": toxicity_prompts(ends=11)}
    }
    repositories |= {repo: build() for repo, build in MODELS.items()}
    repositories |= dict(sae_repository(name) for name in NAMES)
    with LoopbackHub(repositories, gated=GATED) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with nothing in it but data, a copy for each model."""
    folder = tmp_path_factory.mktemp("home")
    for name in NAMES:
        (folder / f"{name}.jsonl").write_bytes(data_rows())
    return folder


@pytest.fixture(scope="module")
def command(hub: LoopbackHub, home: Path) -> Iterator[WarmProcess]:
    """A process of that user."""
    process = WarmProcess(home, hub.environment(home, TOKEN), narrow_gemma_scope=True)
    yield process
    process.close()


@pytest.fixture(scope="module")
def runs(command: WarmProcess) -> dict[str, Outcome]:
    """What `geofilter score NAME.jsonl --model NAME` said, for every name."""
    return {name: command(f"score {name}.jsonl --model {name} {SETS}") for name in NAMES}


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
    name: str, hub: LoopbackHub, home: Path, runs: dict[str, Outcome]
) -> None:
    done = runs[name]
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    table = pq.read_table(home / f"{name}.jsonl.scores.parquet")
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
    name: str, hub: LoopbackHub, home: Path, runs: dict[str, Outcome], command: WarmProcess
) -> None:
    assert runs[name].code == 0
    packs = list((home / "cache" / "geofilter" / "packs").iterdir())
    assert len(packs) == len(NAMES)
    (path,) = (one for one in packs if load_pack(one).model_name == name)
    made, pack = path.stat().st_mtime_ns, load_pack(path)
    toxic, benign = pack.provenance["toxic"], pack.provenance["benign"]
    for side in (toxic, benign):
        assert side["dataset"] == "allenai/real-toxicity-prompts"
        assert side["revision"] == hub.repositories[DATASET].commit
        assert side["skipped"] == {"no_toxicity": 10}
        assert side["rows"] == 22
    assert (toxic["toxicity_from"], benign["toxicity_to"]) == (0.75, 0.1)

    before = len(hub.log)
    again = command(f"score {name}.jsonl --model {name} {SETS} -o again.parquet")
    assert again.code == 0, again.err
    later = {request.repo for request in hub.log[before:] if request.method == "GET"}
    assert later <= {None}, "everything was in the cache"
    assert path.stat().st_mtime_ns == made
    tables = [home / file for file in (f"{name}.jsonl.scores.parquet", "again.parquet")]
    first, second = (pq.read_table(file).column("score").to_pylist() for file in tables)
    assert first == second
