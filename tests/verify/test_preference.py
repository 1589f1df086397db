"""Pairs are measured exactly: on the answers' own tokens, alike in any batch and order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from geofilter.errors import DataError, ModelError
from geofilter.packs.pairs import shipped
from geofilter.verify import preference
from geofilter.verify.preference import PreferencePairs, measure, measure_into
from geofilter.verify.training import weights
from helpers.tiny_models import CONTEXT, VOCABULARY, tiny_network, tiny_tokenizer

ENTRIES = [
    ("pets", "w1 w2", "w3 w4 w5", "w6 w7"),
    ("pets", "w8", "w9", "w10 w11 w12 w13 w14"),
    ("tools", "w15 w16 w17", "w18 w19", "w20 w21"),
    ("", "w22", "w23 w24 w25 w26", "w27"),
    ("tools", "w3 w1", "w30 w31 w32", "w33 w34 w35"),
]


def tokenizer(*, letters: bool = True) -> Any:
    """Words, A and B among them, and a template that closes a turn with two tokens."""
    words = ["<pad>", "<bos>", "<eos>", "<unk>", "A", "B", "end"]
    words += [f"w{n}" for n in range(VOCABULARY - len(words))]
    if not letters:
        words[4:6] = ["C", "D"]
    backend = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
    )
    made.chat_template = (
        "<bos> {% for m in messages %}{{ m['role'] }} {{ m['content'] }} end <eos> {% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    return made


def write(path: Path, entries: Any = ENTRIES) -> str:
    rows = (
        {"domain": domain, "prompt": prompt, "chosen": helpful, "rejected": harmful}
        for domain, prompt, harmful, helpful in entries
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write(tmp_path / "pairs.jsonl")


def read(source: str, own: Any = None, **settings: Any) -> PreferencePairs:
    return PreferencePairs.read(source, own or tokenizer(), **({"max_length": CONTEXT} | settings))


def lines_of(source: str, own: Any = None) -> list[dict[str, Any]]:
    pairs = read(source, own)
    return list(measure(tiny_network(), pairs.pairs, pairs.letters))


def test_a_likelihood_is_transformers_own_loss_on_the_tokens_of_the_answer(source: str) -> None:
    own, network = tokenizer(), tiny_network()
    found = lines_of(source)
    for (_, prompt, harmful, helpful), line in zip(ENTRIES, found, strict=True):
        for side, answer in (("harmful", harmful), ("helpful", helpful)):
            ids = own(f"<bos> user {prompt} end <eos> assistant {answer} end <eos>").input_ids
            labels = torch.tensor([ids])
            words = len(answer.split())
            labels[:, : -2 - words] = -100
            labels[:, -2:] = -100
            loss = network(input_ids=torch.tensor([ids]), labels=labels).loss
            assert line[side] == pytest.approx(-float(loss), rel=1e-5)
        assert line["tokens"] == [len(harmful.split()), len(helpful.split())]


def test_a_choice_is_what_the_reply_begins_with_in_both_orders(source: str) -> None:
    own, network = tokenizer(), tiny_network()
    a, b = own.convert_tokens_to_ids(["A", "B"])
    for (_, prompt, harmful, helpful), line in zip(ENTRIES, lines_of(source), strict=True):
        for (first, second), shares in zip(
            ((harmful, helpful), (helpful, harmful)), line["letters"], strict=True
        ):
            asked = preference._CHOICE.format(prompt=prompt, first=first, second=second)
            ids = own(f"<bos> user {asked} end <eos> assistant ").input_ids
            logits = network(input_ids=torch.tensor([ids])).logits[0, -1].double()
            expected = logits.softmax(-1)[[a, b]]
            assert shares == pytest.approx(expected.tolist(), rel=1e-5)


def test_neighbours_in_a_batch_change_nothing(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    together = lines_of(source)
    monkeypatch.setattr(weights, "LOGITS_AT_ONCE", 1)
    for alone, line in zip(lines_of(source), together, strict=True):
        for side in ("harmful", "helpful"):
            assert alone[side] == pytest.approx(line[side], rel=1e-5)
        np.testing.assert_allclose(alone["letters"], line["letters"], rtol=1e-5)


def test_rows_of_strings_are_put_as_chats(source: str, tmp_path: Path) -> None:
    rows = [
        {
            "domain": domain,
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": helpful}],
            "rejected": [{"role": "assistant", "content": harmful}],
        }
        for domain, prompt, harmful, helpful in ENTRIES
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert lines_of(str(path)) == lines_of(source)


def test_without_tokens_for_both_letters_no_choice_is_put(source: str) -> None:
    own = tokenizer(letters=False)
    pairs = read(source, own)
    assert pairs.letters is None
    assert {line["letters"] for line in lines_of(source, own)} == {None}


def test_choices_can_be_left_out(source: str) -> None:
    pairs = read(source, choice=False)
    found = list(measure(tiny_network(), pairs.pairs, pairs.letters))
    assert [one | {"letters": None} for one in lines_of(source)] == found


def test_a_letter_counts_with_a_blank_and_without() -> None:
    own = tiny_tokenizer()
    own.add_tokens(["A", " A", "B", "AB"])
    a, spaced, b = (own.convert_tokens_to_ids(token) for token in ("A", " A", "B"))
    assert preference._letters(own) == ((a, spaced), (b,))


def test_domains_of_training_rows_are_a_set_of_their_own(source: str) -> None:
    pairs = read(source, inside={"tools", "", "another"})
    found = [(pair.set, pair.domain) for pair in pairs.pairs]
    assert found == [
        ("main", "pets"),
        ("main", "pets"),
        ("in_domain", "tools"),
        ("main", ""),
        ("in_domain", "tools"),
    ]


def test_what_cannot_be_measured_is_left_out_and_counted(tmp_path: Path) -> None:
    long = " ".join(["w1"] * CONTEXT)
    path = tmp_path / "pairs.jsonl"
    write(
        path,
        [
            ENTRIES[0],
            ("", "w1", long, "w2"),
            ("", "w1", "heard unheard", "w2"),
            ("", "w1", "w3", " "),
        ],
    )
    talk = [
        {"role": "assistant", "content": "w1"},
        {"role": "user", "content": "w2"},
        {"role": "assistant", "content": "w3"},
    ]
    asked = [{"role": "user", "content": "w1"}]
    row = {"prompt": asked, "chosen": talk, "rejected": [{"role": "assistant", "content": "w4"}]}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.write('{"prompt": "w1", "response": "w2"}\n')
    found = read(str(path))
    assert len(found.pairs) == 1
    assert sum(found.left_out.values()) == 5
    assert found.left_out[f"longer than {CONTEXT} tokens"] == 1
    assert found.left_out["in words that the tokenizer does not know"] == 1
    assert found.left_out["without a question and one answer on either side"] == 1
    assert found.left_out["no_pair"] == 1


def test_pairs_in_words_that_the_model_does_not_know_are_refused() -> None:
    count = len(shipped("report"))
    with pytest.raises(DataError, match=f"holds no pair to measure .{count} in words that"):
        read("report", max_length=4096)


def test_what_was_measured_is_kept_and_goes_on_after_half_a_batch(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preference, "_AT_ONCE", 2)
    pairs, network = read(source), tiny_network()
    path = tmp_path / "lines.jsonl"
    measure_into(path, network, pairs, lambda *_: None)
    whole = path.read_bytes()
    assert preference.is_measured(path, pairs)
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]) + b'{"set": "ma')
    assert not preference.is_measured(path, pairs)
    begun: list[int] = []
    real = preference.measure

    def noted(network: Any, some: Any, letters: Any) -> Any:
        begun.append(len(some))
        return real(network, some, letters)

    monkeypatch.setattr(preference, "measure", noted)
    measure_into(path, network, pairs, lambda *_: None)
    assert path.read_bytes() == whole
    assert begun == [2, 1]


def test_a_broken_model_is_refused(source: str) -> None:
    network = tiny_network()
    with torch.no_grad():
        network.lm_head.weight.fill_(float("nan"))
    pairs = read(source)
    with pytest.raises(ModelError, match="is not a number"):
        list(measure(network, pairs.pairs, pairs.letters))
