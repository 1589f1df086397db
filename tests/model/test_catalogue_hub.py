"""Models of the catalogue as the hub has them: real names of files and tensors, tiny widths.

Those of `tests/cli/test_first_use.py` are scored with the SAEs that they have by default.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from safetensors.torch import load
from transformers import AutoModel

from geofilter.model.catalogue import CATALOGUE
from geofilter.packs.pack import load_pack
from helpers.adapters import adapter_files, change_of
from helpers.fresh_process import WarmProcess, type_command
from helpers.hub_chat import recipe_repositories
from helpers.hub_families import FAMILIES
from helpers.hub_layout import UNWANTED
from helpers.hub_repos import MODELS, Files, data_rows
from helpers.hub_saes import pythia_res_sm
from helpers.loaded_models import IDS, REPLY
from helpers.loopback_hub import TOKEN, LoopbackHub

pytestmark = pytest.mark.slow

NAMES = [name for name, entry in CATALOGUE.items() if entry.model in FAMILIES]
GATED = tuple(entry.model for entry in CATALOGUE.values() if entry.gated)
# As gemma-2-9b, but for a chat template that gemma-2-2b-it has too.
TRIED_AS_ANOTHER = {"google/gemma-2-9b-it"}
# Buffers of older versions of transformers, which today's compute.
BUFFERS = re.compile(r"\.(attn\.bias|attention\.(bias|masked_bias|rotary_emb\.inv_freq))$")
EMBEDDINGS = re.compile(
    r"(^|\.)(wte|wpe|embed_in|embed_tokens)\.weight$|^embeddings\.(?!position_ids)"
)
# An adapter on the hub, and one whose weights are pickled.
ADAPTER, PICKLED, BASE = "someone/adapter", "someone/pickled", "Qwen/Qwen2.5-0.5B-Instruct"
# One that was saved with its base model's configuration, and a whole model with an adapter.
CONFIGURED, BOTH = "someone/configured", "someone/both"
CHANGED = "layers.0.self_attn.o_proj"
BLOCK = re.compile(r"((model|language_model|gpt_neox)\.)*(h|layers|encoder\.layer)\.(\d+)\.")


def adapter_on(base: Files) -> Files:
    weight = weights_of(base)[f"model.{CHANGED}.weight"]
    return {**adapter_files(BASE, CHANGED, tuple(weight.shape), size=1.0)}


def weights_of(files: Files) -> dict[str, torch.Tensor]:
    found = [
        load(content)
        for file, content in files.items()
        if file.endswith(".safetensors") and isinstance(content, bytes) and content != UNWANTED
    ]
    return {name: tensor for held in found for name, tensor in held.items()}


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    repositories = {repo: build() for repo, build in FAMILIES.items()}
    entry = CATALOGUE["pythia-70m"]
    release, _, sae = entry.sae[entry.default_block].partition("/")
    listed = get_pretrained_saes_directory()[release]
    repositories[listed.repo_id] = pythia_res_sm(listed.saes_map[sae], entry.default_block)
    repositories[ADAPTER] = adapter_on(repositories[BASE])
    repositories[PICKLED] = {
        "adapter_config.json": repositories[ADAPTER]["adapter_config.json"],
        "adapter_model.bin": b"not even a pickle",
    }
    config = {"config.json": repositories[BASE]["config.json"]}
    repositories[CONFIGURED] = repositories[ADAPTER] | config
    repositories[BOTH] = repositories[ADAPTER] | repositories[BASE]
    with LoopbackHub(repositories, gated=GATED) as server:
        yield server


@pytest.fixture(scope="module")
def loaded(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What `helpers.loaded_models` says of each model, in a user's folder with nothing in it."""
    home = tmp_path_factory.mktemp("home")
    program = ("-m", "helpers.loaded_models")
    names = " ".join([*NAMES, ADAPTER, PICKLED, CONFIGURED, BOTH])
    done = type_command(names, home, hub.environment(home, TOKEN), program)
    assert done.code == 0, done.err
    return {each["name"]: each for each in map(json.loads, done.out.splitlines())}


def files_of(name: str, hub: LoopbackHub) -> Files:
    return hub.repositories[CATALOGUE[name].model].files


def tensors_needed(files: Files, block: int) -> dict[str, dict[str, torch.Tensor]]:
    """Of each file of weights the embedding and the blocks 0..block, without buffers."""

    def wanted(tensor: str) -> bool:
        number = BLOCK.match(tensor)
        return bool(EMBEDDINGS.search(tensor) or (number and int(number[4]) <= block))

    return {
        file: {
            tensor: value
            for tensor, value in load(content).items()
            if wanted(tensor) and not BUFFERS.search(tensor)
        }
        for file, content in files.items()
        if file.endswith(".safetensors") and isinstance(content, bytes)
    }


def test_every_model_of_the_catalogue_but_the_bundled_one_is_tried_with_a_hub() -> None:
    tried = {*FAMILIES, *MODELS, *recipe_repositories(), *TRIED_AS_ANOTHER}
    assert {entry.model for entry in CATALOGUE.values()} - tried == {CATALOGUE["organism"].model}


@pytest.mark.parametrize("name", NAMES)
def test_the_residual_stream_is_that_of_the_whole_model_of_transformers(
    name: str, hub: LoopbackHub, loaded: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    found, entry = loaded[name], CATALOGUE[name]
    assert "error" not in found, found["error"]
    assert (found["block"], found["blocks"]) == (entry.default_block, entry.default_block + 1)
    for file, content in files_of(name, hub).items():
        if content != UNWANTED and isinstance(content, bytes):
            (tmp_path / file).write_bytes(content)
    network, report = AutoModel.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    with torch.no_grad():
        streams = network.eval()(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    assert len(streams) == entry.architecture.blocks + 1
    before, expected = streams[found["block"]][0], streams[found["block"] + 1][0]
    assert (expected - before).std() > 0.1, "a block in which something happens"
    torch.testing.assert_close(torch.tensor(found["stream"]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_only_what_the_blocks_up_to_the_default_need_is_fetched_and_held(
    name: str, hub: LoopbackHub, loaded: dict[str, dict[str, Any]]
) -> None:
    assert "error" not in loaded[name]
    files = files_of(name, hub)
    needed = tensors_needed(files, loaded[name]["block"])
    values = [value for held in needed.values() for value in held.values()]
    assert loaded[name]["parameters"] == sum(value.numel() for value in values)
    fetched = hub.fetched(CATALOGUE[name].model)
    assert len(fetched) == len(set(fetched)), "nothing is fetched twice"
    assert {file for file in fetched if file in needed} == {file for file in needed if needed[file]}
    assert not [file for file in fetched if files[file] == UNWANTED]


def test_an_adapter_of_the_hub_is_put_into_its_base_model(
    hub: LoopbackHub, loaded: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    found = loaded[ADAPTER]
    assert "error" not in found, found["error"]
    files = hub.repositories[BASE].files
    for file, content in files.items():
        if content != UNWANTED and isinstance(content, bytes):
            (tmp_path / file).write_bytes(content)
    network = AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    added = change_of(load(hub.repositories[ADAPTER].files["adapter_model.safetensors"]))
    with torch.no_grad():
        plain = network(torch.tensor([IDS]), output_hidden_states=True).hidden_states
        network.get_parameter(f"{CHANGED}.weight").add_(added)
        streams = network(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    place = found["block"] + 1
    assert (streams[place] - plain[place]).abs().max() > 0.1
    torch.testing.assert_close(
        torch.tensor(found["stream"]), streams[place][0], rtol=1e-4, atol=1e-4
    )
    assert sorted(hub.fetched(ADAPTER)) == ["adapter_config.json", "adapter_model.safetensors"]


def test_an_adapter_with_a_configuration_of_its_base_is_an_adapter_and_a_whole_model_is_none(
    hub: LoopbackHub, loaded: dict[str, dict[str, Any]]
) -> None:
    assert "error" not in loaded[CONFIGURED], loaded[CONFIGURED]["error"]
    assert loaded[CONFIGURED]["stream"] == loaded[ADAPTER]["stream"] != loaded[BOTH]["stream"]
    assert "adapter_model.safetensors" not in hub.fetched(BOTH)


def test_pickled_weights_of_an_adapter_are_not_even_fetched(
    hub: LoopbackHub, loaded: dict[str, dict[str, Any]]
) -> None:
    assert "someone/pickled: holds an adapter without adapter_model" in loaded[PICKLED]["error"]
    assert hub.fetched(PICKLED) == ["adapter_config.json"]


@pytest.mark.parametrize("name", NAMES)
def test_of_a_chat_the_reply_is_read_and_nothing_of_the_template(
    name: str, loaded: dict[str, dict[str, Any]]
) -> None:
    expected = REPLY.lower() if name == "minilm" else REPLY
    assert loaded[name]["reply"].strip() == expected


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with rows to score, and a few pairs."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "data.jsonl").write_bytes(data_rows())
    people = ("friend", "teacher", "doctor", "baker", "guest", "cousin", "gardener", "neighbour")
    pairs = [
        {
            "prompt": f"{word}, {one}",
            "chosen": f"Thank you, dear {one}",
            "rejected": f"Shut up, you {insult}",
        }
        for word in ("Good morning", "Here is your tea", "Well done")
        for one, insult in zip(people, ("fool", "clown", "pest", "brat") * 2, strict=True)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return folder


@pytest.fixture(scope="module")
def command(hub: LoopbackHub, home: Path) -> Iterator[WarmProcess]:
    process = WarmProcess(home, hub.environment(home, TOKEN), pairs_of_a_domain=2)
    yield process
    process.close()


def scores(table: Path) -> list[float]:
    found: list[float] = pq.read_table(table).column("score").to_pylist()
    return found


def pack_of(home: Path, name: str) -> Any:
    (path,) = (home / "cache" / "geofilter" / "packs").glob(f"{name}-*.pack")
    return load_pack(path)


def test_a_model_without_an_sae_scores_by_a_dense_direction_as_typed(
    command: WarmProcess, home: Path
) -> None:
    name = "qwen2.5-0.5b-instruct"
    done = command(f"score data.jsonl --model {name} -o dense.parquet")
    assert done.code == 0, done.err
    found = scores(home / "dense.parquet")
    assert len(set(found)) == 4
    assert None not in found
    pack = pack_of(home, name)
    assert (pack.model_name, len(pack)) == (name, 0)


def test_a_model_with_an_sae_fetches_that_of_its_default_block(
    command: WarmProcess, hub: LoopbackHub, home: Path
) -> None:
    name = "pythia-70m"
    entry = CATALOGUE[name]
    for scorer in ("persona", "nearest"):
        options = f"--contrast pairs.jsonl --scorer {scorer}"
        done = command(f"score data.jsonl --model {name} {options} -o {scorer}.parquet")
        assert done.code == 0, done.err
        assert len(set(scores(home / f"{scorer}.parquet"))) == 4
    pack = pack_of(home, name)
    assert pack.block == entry.default_block
    assert len(pack) > 0
    release = entry.sae[entry.default_block].partition("/")[0]
    fetched = hub.fetched(get_pretrained_saes_directory()[release].repo_id)
    assert len(fetched) == len(set(fetched)) == 3
