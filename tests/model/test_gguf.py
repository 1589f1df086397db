"""A GGUF file is the model that transformers makes of it, up to the block that is read."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from geofilter.errors import ModelError
from geofilter.model import loading
from geofilter.model.blocks import run_to_block
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.gguf_file import GgufFile
from helpers.gguf_files import BLOCKS, CONFIGS, TEMPLATE, network, write_gguf

pytestmark = pytest.mark.slow

STORED = ("F32", "BF16", "Q8_0", "Q4_1")
TEXTS = [
    "hello world",
    "",
    "  two  spaces and 12 11  1 numbers, isn't it?\n\n<|im_start|>user\nHello<|im_end|>",
    "naïve café 日本語 🙂\t.",
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Networks this small only lose time to a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[(kind, stored) for kind in CONFIGS for stored in STORED])
def file(request, tmp_path_factory):
    kind, stored = request.param
    folder = tmp_path_factory.mktemp(f"{kind}-{stored}")
    return write_gguf(folder / "model.gguf", kind, network(kind), stored)


@pytest.fixture(scope="module")
def reference(file):
    """What transformers makes of the file."""
    return AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    ).eval()


def batch(vocabulary):
    return torch.randint(4, vocabulary, (3, 20), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("block", [0, 2, BLOCKS - 1])
def test_the_residual_stream_is_that_of_transformers(file, reference, block):
    ids = batch(reference.config.vocab_size)
    with torch.no_grad():
        expected = run_to_block(reference, block, ids)
    model = loading.load(str(file), sae=f"axes/{block}")
    found = run_to_block(model.network, block, ids)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert expected.abs().max() > 1, "the test needs a stream that words and blocks move"


def test_the_logits_of_the_whole_model_are_those_of_transformers(file, reference):
    ids = batch(reference.config.vocab_size)
    model = loading.load(str(file), sae="axes/1", whole=True)
    with torch.no_grad():
        expected, found = reference(ids).logits, model.network(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert model.fingerprint == loading.load(str(file), sae="axes/1").fingerprint


def test_the_tokenizer_is_that_of_transformers(file):
    expected = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    _, found = loading.read_texts(open_checkpoint(str(file)), False)
    for text in TEXTS:
        assert found(text)["input_ids"] == expected(text)["input_ids"]
        offsets = found(text, return_offsets_mapping=True)["offset_mapping"]
        assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert found.chat_template == expected.chat_template == TEMPLATE
    assert found.special_tokens_map.items() <= expected.special_tokens_map.items()


@pytest.mark.parametrize("kind", CONFIGS)
def test_only_the_embedding_and_the_blocks_up_to_l_are_dequantised(kind, tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "model.gguf", kind, network(kind), "Q8_0")
    read, plain = [], GgufFile.tensor
    monkeypatch.setattr(
        GgufFile,
        "tensor",
        lambda file, name, dtype: read.append(name) or plain(file, name, dtype),
    )
    model = loading.load(str(path), sae="axes/2")
    assert len(read) == len(set(read))
    assert {name.split(".")[0] for name in read} == {"token_embd", "blk"}
    assert {name.split(".")[1] for name in read if name.startswith("blk")} == {"0", "1", "2"}
    assert len(model.network.layers) == 3


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_file_of_plain_numbers_is_the_model_that_it_was_made_of(kind, tmp_path):
    source = network(kind)
    ids = batch(source.config.vocab_size)
    expected = run_to_block(source, 5, ids)
    plain = loading.load(str(write_gguf(tmp_path / "a.gguf", kind, source)), sae="axes/5")
    found = run_to_block(plain.network, 5, ids)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    plain.tokenizer.save_pretrained(tmp_path / "folder")
    source.save_pretrained(tmp_path / "folder")
    folder = loading.load(str(tmp_path / "folder"), sae="axes/5")
    parts = ("weights", "architecture")
    if kind == "gemma3":  # 1 is added to the norms and taken away again, with rounding
        parts = ("architecture",)
    assert [plain.fingerprint[part] for part in parts] == [
        folder.fingerprint[part] for part in parts
    ]


def test_rounded_weights_are_a_model_of_their_own(tmp_path):
    source = network("llama")
    models = {
        stored: loading.load(
            str(write_gguf(tmp_path / f"{stored}.gguf", "llama", source, stored)), sae="axes/1"
        )
        for stored in STORED
    }
    weights = {stored: model.fingerprint["weights"] for stored, model in models.items()}
    assert weights["Q8_0"].endswith("-Q8_0")
    assert weights["Q4_1"].endswith("-Q4_1")
    assert len(set(weights.values())) == 3  # bfloat16 is how float32 is hashed
    assert models["Q8_0"].name == f"{tmp_path / 'Q8_0.gguf'} (Q8_0)"
    exact = models["Q4_1"].fingerprint
    rounded = loading.load(str(tmp_path / "Q4_1.gguf"), sae="axes/1", dtype="bfloat16")
    assert rounded.network.dtype == torch.bfloat16
    assert rounded.fingerprint == exact


def test_other_files_of_the_folder_are_not_mixed_in(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", "llama", network("llama"))
    _, tokenizer = loading.read_texts(open_checkpoint(str(path)), False)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja"):
        (tmp_path / name).write_text("{}")
    _, again = loading.read_texts(open_checkpoint(str(path)), False)
    assert again(TEXTS[0])["input_ids"] == tokenizer(TEXTS[0])["input_ids"]
    assert again.chat_template == TEMPLATE


def test_a_rotation_that_reaches_further_is_that_of_the_model(tmp_path):
    """llama.cpp keeps Llama 3's as one factor for each frequency; transformers passes it over."""
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    source = network("llama", rope_parameters=scaling)
    plain = 10000.0 ** -(torch.arange(0, 8, 2) / 8)
    factors = (plain / source.model.rotary_emb.inv_freq).numpy().astype(np.float32)
    assert factors.max() > 2
    more = {"rope_freqs.weight": factors}
    path = write_gguf(tmp_path / "model.gguf", "llama", source, tensors=more)
    ids = batch(source.config.vocab_size)
    found = run_to_block(loading.load(str(path), sae="axes/4").network, 4, ids)
    torch.testing.assert_close(found, run_to_block(source, 4, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_positions_that_are_divided_are_divided(kind, tmp_path):
    linear = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    local = {"rope_type": "default", "rope_theta": 10000.0}
    both = {"full_attention": linear, "sliding_attention": local}
    source = network(kind, rope_parameters=both if kind == "gemma3" else linear)
    more = {f"{kind}.rope.scaling.type": "linear", f"{kind}.rope.scaling.factor": 4.0}
    path = write_gguf(tmp_path / "model.gguf", kind, source, values=more)
    ids = batch(source.config.vocab_size)
    found = run_to_block(loading.load(str(path), sae="axes/5").network, 5, ids)
    torch.testing.assert_close(found, run_to_block(source, 5, ids), rtol=1e-4, atol=1e-4)


def test_digits_stand_alone_in_smollm_and_spaces_stay_together(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", "llama", network("llama"), pre="smollm")
    _, tokenizer = loading.read_texts(open_checkpoint(str(path)), False)
    assert tokenizer.tokenize("he  1") == ["he", "ĠĠ", "1"]
    assert tokenizer.tokenize("11") == ["1", "1"]


def test_a_folder_with_nothing_but_a_gguf_file_names_it(tmp_path):
    write_gguf(tmp_path / "small.gguf", "llama", network("llama"))
    with pytest.raises(ModelError, match=r"holds no config\.json; give its file small\.gguf"):
        loading.load(str(tmp_path), sae="axes/1")
