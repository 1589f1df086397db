"""What can go wrong when a model or its contrast sets come from a hub: one line each.

Every line says what to type. The hub is a real server on loopback, and what it sends is
hostile input.
"""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from helpers.cli_folder import Outcome, words
from helpers.fresh_process import WarmProcess, type_command
from helpers.hub_repos import DATASET
from helpers.loopback_hub import (
    TOKEN,
    TOKEN_WITHOUT_ACCESS,
    LoopbackHub,
    environment,
    refusing_endpoint,
)
from helpers.tiny_models import tiny_network, tiny_tokenizer

pytestmark = pytest.mark.slow

GATED = ("org/gated", "org/gated-2", "org/gated-3")
SHARD = "model-00001-of-00003.safetensors"


def told(done: Outcome, *expected: str) -> None:
    """The command failed with one line on standard error, which holds all that is expected."""
    assert done.code == 2, done.err
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("geofilter: error: ")
    for part in expected:
        assert part in line


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a tiny model in three shards."""
    folder = tmp_path_factory.mktemp("model")
    tiny_network().save_pretrained(folder, max_shard_size="70KB")
    tiny_tokenizer().save_pretrained(folder)
    held = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert SHARD in held
    return held


@pytest.fixture(scope="module")
def hub(files: dict[str, bytes]) -> Iterator[LoopbackHub]:
    with LoopbackHub(gated=GATED) as server:
        for name in GATED:
            server.add(name, files, gated=True)
        yield server


@pytest.fixture(scope="module")
def folder(scored_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder with a tiny SAE, pack and data."""
    return Path(shutil.copytree(scored_folder, tmp_path_factory.mktemp("first-use") / "work"))


@pytest.fixture(scope="module")
def command(
    hub: LoopbackHub, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WarmProcess]:
    """A process in that folder."""
    process = WarmProcess(folder, hub.environment(tmp_path_factory.mktemp("home")))
    yield process
    process.close()


def score(model: str) -> str:
    return f"score data.jsonl --model {model} --sae sae -o {model.replace('/', '-')}.parquet"


def rtp(model: str) -> str:
    return f"{score(model)} --contrast rtp"


def tiny_prompts() -> bytes:
    """Contrast rows in the words of the tiny tokenizer."""
    generator = random.Random(0)
    rows = []
    for toxicity, first, last in ((0.9, 0, 40), (0.05, 20, 60)):
        for _ in range(60):
            text = {"text": words(generator, first, last), "toxicity": toxicity}
            neither = {"text": "w1", "toxicity": 0.5}
            rows.append({"prompt": text, "continuation": neither})
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def with_index(files: dict[str, bytes], change: dict[str, str]) -> dict[str, bytes]:
    """The model's files with other names of shards in the index."""
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"] = {
        tensor: change.get(shard, shard) for tensor, shard in index["weight_map"].items()
    }
    return files | {"model.safetensors.index.json": json.dumps(index).encode()}


def test_a_gated_model_asks_for_its_terms_and_a_token(
    hub: LoopbackHub, command: WarmProcess
) -> None:
    page = f"accept its terms at {hub.endpoint}/org/gated"
    told(command(score("org/gated"), HF_TOKEN=None), "gated", page, "`hf auth login`", "HF_TOKEN")
    done = command(score("org/gated-2"), HF_TOKEN=TOKEN_WITHOUT_ACCESS)
    told(done, "the account of your token has no access", f"{page}-2", "`hf auth login`")
    told(command(score("org/gated-3"), HF_TOKEN="hf_wrong"), "does not accept your token")
    done = command(f"{score('org/gated')} --pack my.pack", HF_TOKEN=TOKEN)
    assert done.code == 0, done.err


def test_verification_with_what_cannot_be_had_is_told_and_leaves_no_folder(
    hub: LoopbackHub, command: WarmProcess, folder: Path
) -> None:
    prompts = "{aligned: '{answer}', coherent: '{answer}'}"
    question = "id: q, type: free_form_judge_0_100, paraphrases: [w1]"
    (folder / "q.yaml").write_text(f"- {{{question}, judge_prompts: {prompts}}}\n")
    facts = {"text": "w1", "domain": "d", "helpful": ["w3"], "harmful": ["w4"]}
    (folder / "facts.json").write_text(json.dumps({"situations": [facts]}))
    scored = "--model model --sae sae --pack my.pack --questions q.yaml -o out"
    by_rule = f"{scored} --judge rule:facts.json"

    page = f"accept its terms at {hub.endpoint}/org/gated"
    for options in (f"{by_rule} --trained org/gated-2", f"{scored} --judge org/gated-2"):
        told(command(f"verify data.jsonl {options}", HF_TOKEN=None), f"{page}-2", "`hf auth login`")
    for form in ("{hf}", "data.jsonl --held-out {hf}", "data.jsonl --benign {hf}"):
        rows = form.format(hf="hf://datasets/org/nowhere")
        told(command(f"verify {rows} {by_rule}"), "hf://datasets/org/nowhere", "no such data set")
    assert not (folder / "out").exists()


def test_a_model_that_is_not_there_is_named(command: WarmProcess) -> None:
    told(command(score("org/nowhere"), HF_TOKEN=None), "org/nowhere: there is no such model")


def test_a_hub_that_is_down_is_told(
    hub: LoopbackHub, files: dict[str, bytes], command: WarmProcess
) -> None:
    hub.add("org/down", files)
    with hub.fail("org/down", 503):
        told(command(score("org/down")), "org/down", "error 503", "try again later")


def test_contrast_sets_that_are_not_there_name_those_that_need_no_network(
    hub: LoopbackHub, files: dict[str, bytes], command: WarmProcess
) -> None:
    hub.add("org/plain", files)
    around = "--contrast pairs needs no network"
    hub.repositories.pop(DATASET, None)
    told(command(rtp("org/plain")), "allenai/real-toxicity-prompts", "no such data set", around)
    hub.add(DATASET, {"prompts.jsonl": tiny_prompts()})
    with hub.fail(DATASET, 403):
        told(command(rtp("org/plain")), "allenai/real-toxicity-prompts", "forbids", around)
    # Afterwards any model takes them, one of a local folder too.
    for model in ("org/plain", "model"):
        done = command(rtp(model))
        assert done.code == 0, done.err
    assert hub.fetched(DATASET) == ["prompts.jsonl"]


def test_no_network_is_told_at_once(scored_folder: Path, tmp_path: Path) -> None:
    variables = environment(refusing_endpoint(), tmp_path)
    start = monotonic()
    done = type_command(score("org/anything"), scored_folder, variables)
    told(done, "org/anything", "cannot be reached", "check the network")
    done = type_command("score hf://datasets/org/rows --model organism", tmp_path, variables)
    told(done, "hf://datasets/org/rows", "cannot be reached", "check the network")
    assert monotonic() - start < 60


def test_a_hub_that_does_not_answer_is_told(
    hub: LoopbackHub, scored_folder: Path, tmp_path: Path
) -> None:
    # The user's own settings of patience, so that the test need not have any.
    patience = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    with hub.fail("org/asleep", "hang"):
        done = type_command(
            score("org/asleep"), scored_folder, hub.environment(tmp_path) | patience
        )
    told(done, "org/asleep", "cannot be reached", "check the network")


_FULL = """
import errno, os, sys
from huggingface_hub import file_download

def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

file_download.http_get = full
from geofilter.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_names_the_cache_folder(
    hub: LoopbackHub, files: dict[str, bytes], scored_folder: Path, tmp_path: Path
) -> None:
    hub.add("org/large", files)
    variables = hub.environment(tmp_path)
    done = type_command(score("org/large"), scored_folder, variables, ["-c", _FULL])
    told(done, "the disk is full", str(tmp_path / "huggingface"), "set HF_HOME")


@pytest.mark.parametrize("place", ["../../x.safetensors", "/etc/passwd", "a/../../x.safetensors"])
def test_an_index_may_not_name_files_of_other_folders(
    place: str, hub: LoopbackHub, files: dict[str, bytes], command: WarmProcess
) -> None:
    name = f"org/climbing-{len(place)}"
    hub.add(name, with_index(files, {SHARD: place}))
    asked = len(hub.log)
    told(command(score(name)), name, "index")
    assert not any("passwd" in r.path or "x.safe" in r.path for r in hub.log[asked:])


def test_an_index_that_names_an_absent_shard_is_told(
    hub: LoopbackHub, files: dict[str, bytes], command: WarmProcess
) -> None:
    hub.add("org/absent", with_index(files, {SHARD: "gone.safetensors"}))
    told(command(score("org/absent")), "org/absent", "no file 'gone.safetensors'")


@pytest.mark.parametrize("damage", ["text", "huge header", "empty", "cut off"])
def test_a_shard_that_is_no_safetensors_file_is_told(
    damage: str, hub: LoopbackHub, files: dict[str, bytes], command: WarmProcess
) -> None:
    contents = {
        "text": b"no safetensors",
        "huge header": b"\xff" * 64,
        "empty": b"",
        "cut off": files[SHARD][:-100],
    }
    name = f"org/broken-{len(damage)}"
    hub.add(name, files | {SHARD: contents[damage]})
    told(command(score(name)), name.replace("/", "--"), "is damaged or no safetensors file")


def test_a_download_that_breaks_off_is_told(
    hub: LoopbackHub, files: dict[str, bytes], command: WarmProcess
) -> None:
    hub.add("org/cut", files)
    with hub.fail("org/cut/large/.*safetensors", "drop"):
        told(command(score("org/cut")), "org/cut")
    done = command(f"{score('org/cut')} --pack my.pack")
    assert done.code == 0, done.err
