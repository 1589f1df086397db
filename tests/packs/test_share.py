"""A pack goes to a hub repository and comes back the same; each refusal is one line."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from geofilter.errors import PackError
from geofilter.packs import share
from geofilter.packs.pack import load_pack
from geofilter.packs.repository import check_repository
from helpers.cli_folder import Outcome
from helpers.fresh_process import WarmProcess
from helpers.loopback_hub import TOKEN, TOKEN_WITHOUT_ACCESS
from helpers.loopback_upload import UploadHub
from helpers.tiny_models import tiny_setting

pytestmark = pytest.mark.slow

OTHERS = "org/pack"


@pytest.fixture(scope="module")
def hub(scored_folder: Path) -> Iterator[UploadHub]:
    files = {"pack.safetensors": scored_folder / "my.pack"}
    with UploadHub({OTHERS: files}) as server:
        yield server


@pytest.fixture(scope="module")
def process(
    hub: UploadHub, scored_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WarmProcess]:
    """One process for all tests here, since the hub's libraries take long to import."""
    folder = tmp_path_factory.mktemp("work") / "work"
    shutil.copytree(scored_folder, folder)
    variables = hub.environment(tmp_path_factory.mktemp("home"), TOKEN)
    warm = WarmProcess(folder, variables | {"HF_HUB_DISABLE_XET": "1"})
    warm.folder = folder  # type: ignore[attr-defined]
    yield warm
    warm.close()


@pytest.fixture
def folder(process: WarmProcess) -> Path:
    return process.folder  # type: ignore[attr-defined, no-any-return]


def says(done: Outcome, *expected: str) -> None:
    """The command failed with one line on standard error, which holds all that is expected."""
    assert done.code == 2, done.err
    (line,) = done.err.splitlines()
    for part in ("geofilter: error: ", *expected):
        assert part in line


def test_a_pushed_pack_comes_back_and_scores_the_same(
    hub: UploadHub, process: WarmProcess, folder: Path
) -> None:
    done = process("pack push my.pack me/toxic")
    assert done.code == 0, done.err
    assert f"{hub.endpoint}/me/toxic/commit/" in done.out
    assert set(hub.repositories["me/toxic"].files) == {
        ".gitattributes",
        "README.md",
        "pack.safetensors",
    }
    assert hub.large, "the pack went by the protocol for large files"
    assert process("pack pull me/toxic").code == 0
    back, own = load_pack(folder / "toxic.pack"), load_pack(folder / "my.pack")
    assert back.to_bytes() == share.without_folders(own).to_bytes()

    scored = "score data.jsonl --model model --sae sae"
    assert process(f"{scored} --pack hf://me/toxic -o hub.parquet").code == 0
    again = process(f"{scored} --pack my.pack -o own.parquet")
    assert again.code == 0, again.err
    ranks = [
        process(f"filter data.jsonl --scores {name}.parquet --drop-fraction 0.3 -o {name}.jsonl")
        for name in ("hub", "own")
    ]
    assert [done.code for done in ranks] == [0, 0]
    assert (folder / "hub.jsonl").read_bytes() == (folder / "own.jsonl").read_bytes()


def test_a_second_push_is_another_commit_and_old_revisions_stay_named(
    hub: UploadHub, process: WarmProcess, folder: Path
) -> None:
    assert process("pack push my.pack me/twice").code == 0
    first = hub.repositories["me/twice"].commit
    other = dataclasses.replace(load_pack(folder / "my.pack"), weights=tiny_weights(folder))
    other.save(folder / "second.pack")
    assert process("pack push second.pack me/twice").code == 0
    assert hub.repositories["me/twice"].commit != first
    assert process("pack pull me/twice -o second-back.pack").code == 0
    assert load_pack(folder / "second-back.pack").digest != load_pack(folder / "my.pack").digest
    says(process("pack pull me/twice -o lost.pack --revision v9"), "no such revision")
    assert not (folder / "lost.pack").exists()


def tiny_weights(folder: Path):
    weights = load_pack(folder / "my.pack").weights[::-1].copy()
    weights[0] *= 2
    return weights / weights.sum()


def test_a_private_repository_is_made_private_and_a_public_one_is_not_written_to(
    hub: UploadHub, process: WarmProcess
) -> None:
    assert process("pack push my.pack me/hidden --private").code == 0
    assert "me/hidden" in hub.private
    assert process("pack push my.pack me/shown").code == 0
    commit = hub.repositories["me/shown"].commit
    says(process("pack push second.pack me/shown --private"), "me/shown", "public")
    assert hub.repositories["me/shown"].commit == commit


def test_a_repository_that_holds_something_else_keeps_its_card(
    hub: UploadHub, process: WarmProcess
) -> None:
    hub.add("me/model", {"README.md": b"mine", "model.safetensors": b"weights"})
    says(process("pack push my.pack me/model"), "me/model", "holds no pack")
    assert set(hub.repositories["me/model"].files) == {"README.md", "model.safetensors"}


def test_who_may_not_write_is_refused_in_one_line(process: WarmProcess) -> None:
    push = "pack push my.pack"
    says(process(f"{push} me/new", HF_TOKEN=None), "needs a token", "hf auth login")
    process("--version", HF_TOKEN=TOKEN)  # the process remembers what it was given
    says(process(f"{push} {OTHERS}"), OTHERS, "may not write", "write access")
    says(process(f"{push} me/new", HF_TOKEN=TOKEN_WITHOUT_ACCESS), "me/new", "may not write")
    says(process(f"{push} me/new", HF_TOKEN="hf_unknown"), "does not accept your token")
    process("--version", HF_TOKEN=TOKEN)


@pytest.mark.parametrize(("status", "expected"), [(409, "push it again"), (412, "push it again")])
def test_a_commit_in_between_is_not_overwritten(
    hub: UploadHub, process: WarmProcess, status: int, expected: str
) -> None:
    with hub.fail("/commit/main$", status):
        says(process("pack push my.pack me/busy"), "me/busy", expected)


def test_what_is_no_pack_is_refused(hub: UploadHub, process: WarmProcess, folder: Path) -> None:
    hub.add("me/empty", {"README.md": b"nothing here"})
    says(process("pack pull me/empty"), "me/empty", "no file 'pack.safetensors'")
    hub.add("me/forged", {"pack.safetensors": b"\x80\x04 not a pack"})
    says(process("pack pull me/forged"), "damaged or no feature pack")
    says(process("pack pull me/nowhere"), "me/nowhere", "no such model repository")
    says(process("pack push data.jsonl me/data"), "data.jsonl", "no feature pack")
    assert "me/data" not in hub.repositories
    for name in ("empty", "forged", "nowhere"):
        assert not (folder / f"{name}.pack").exists()


def test_an_existing_file_is_kept_unless_overwriting_is_asked_for(
    process: WarmProcess, folder: Path
) -> None:
    (folder / "kept.pack").write_bytes(b"mine")
    says(process(f"pack pull {OTHERS} -o kept.pack"), "exists")
    assert (folder / "kept.pack").read_bytes() == b"mine"
    assert process(f"pack pull {OTHERS} -o kept.pack --overwrite").code == 0
    assert load_pack(folder / "kept.pack").digest == load_pack(folder / "my.pack").digest


@pytest.mark.parametrize("name", ["pack", "a/b/c", "../x", "me/..", "me/.", "/x", "me/", "me/a b"])
def test_a_name_is_never_a_path_out_of_the_folder(name: str) -> None:
    with pytest.raises(PackError, match="give ORG/NAME"):
        check_repository(name)


def test_what_is_published_names_no_folder_of_the_maker() -> None:
    pack = tiny_setting()[1]
    described = {"source": "/home/somebody/secret/toxic.jsonl", "rows": 3}
    windows = {"source": "C:\\Users\\somebody\\benign.jsonl", "rows": 3}
    mine = dataclasses.replace(
        pack,
        provenance=dict(pack.provenance, toxic=described, benign=windows),
        model_name="/home/somebody/model",
    )
    shared = share.without_folders(mine)
    assert b"somebody" not in shared.to_bytes()
    assert shared.provenance["toxic"]["source"] == "toxic.jsonl"
    assert shared.provenance["benign"]["source"] == "benign.jsonl"
    assert "somebody" not in share.card(shared, "me/pack")
    hub_named = dataclasses.replace(pack, model_name="google/gemma-2-9b")
    assert share.without_folders(hub_named).model_name == "google/gemma-2-9b"


@pytest.mark.parametrize(
    "place",
    [
        "./clients/acme-secret/model",
        "../secret/model",
        "~/secret/model",
        "clients/acme/secret/model",
        "C:\\Users\\secret\\model",
        "/home/secret/model/",
    ],
)
def test_a_folder_is_published_by_its_name_wherever_it_is_published_from(place: str) -> None:
    pack = dataclasses.replace(tiny_setting()[1], model_name=place, sae_name=place)
    shared = share.without_folders(pack)
    assert (shared.model_name, shared.sae_name) == ("model", "model")


@pytest.mark.parametrize(
    ("model", "sae"),
    [
        ("gemma-2-2b", "gemma-scope-2b-pt-res-canonical/layer_0/width_16k/canonical"),
        ("me/model", "axes/3"),
        ("organism", "gemma-scope-2-1b-it-res/layer_7_width_16k_l0_medium"),
    ],
)
def test_what_everybody_knows_is_published_in_full(model: str, sae: str) -> None:
    pack = dataclasses.replace(tiny_setting()[1], model_name=model, sae_name=sae)
    shared = share.without_folders(pack)
    assert (shared.model_name, shared.sae_name) == (model, sae)


HOSTILE = "<script>alert(1)</script>\x1b[31m|\n---\n[x](javascript:x)\u202e`"


def test_a_card_holds_text_of_rows_as_text_only() -> None:
    pack = tiny_setting()[1]
    hostile = dataclasses.replace(
        pack,
        model_name=HOSTILE,
        labels=tuple((HOSTILE,) for _ in pack.labels),
        provenance={name: {"source": HOSTILE} for name in ("toxic", "benign")},
    )
    made = share.card(hostile, "me/pack")
    header, _, body = made.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(header)["library_name"] == "geofilter"
    for sign in ("<", "\x1b", "\u202e", "](", "\n---\n"):
        assert sign not in body
    rows = [line for line in body.splitlines() if line.startswith("| ") and "alert" in line]
    widths = {line.count("|") for line in rows}
    assert widths <= {3, 5, 6}, "no text adds a cell"


def test_a_page_on_neuronpedia_is_named_where_there_is_one(tmp_path: Path) -> None:
    canonical = "gemma-scope-9b-pt-res-canonical/layer_20/width_16k/canonical"
    page = share.neuronpedia(canonical, 7)
    assert page == "https://neuronpedia.org/gemma-2-9b/20-gemmascope-res-16k/7"
    assert share.neuronpedia("no-release/layer_20", 7) is None
    assert share.neuronpedia(str(tmp_path), 7) is None
