"""A row longer than the window: its beginning, at once, and never another one."""

import time

import pytest

from geofilter.data.encoder import Encoder
from geofilter.data.problems import Unscorable
from geofilter.data.samples import Sample, Turn
from helpers import tiny
from helpers.chats import TWO_TURNS, messages, text_of


def test_out_of_window_states_both_lengths() -> None:
    tokenizer = tiny.bpe_tokenizer()
    turns = (Turn("user", "soup " * 99), Turn("assistant", "yes"))
    total = len(tokenizer.apply_chat_template(messages(turns), tokenize=True)["input_ids"])
    with pytest.raises(Unscorable, match=f"window of 64 tokens .* has {total} tokens"):
        Encoder(tokenizer, max_length=64).encode(Sample(turns))


@pytest.mark.parametrize("prompt_turns", [0, 1])
def test_cutting_a_long_text_first_does_not_change_the_window(
    prompt_turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny.bpe_tokenizer(tiny.CHATML_MARKED)
    words = "".join(f"{word} {place} \n" for place in range(9000) for word in ("soup", "東京"))
    sample = Sample((Turn("user", "hi"), Turn("assistant", words)), prompt_turns=prompt_turns)
    whole = Encoder(tokenizer, max_length=100).encode(sample)
    monkeypatch.setattr("geofilter.data.window._CUT_CHARACTERS", 1 << 13)
    cut = Encoder(tokenizer, max_length=100).encode(sample)
    for field in ("ids", "response", "pooled"):
        assert getattr(whole, field).tolist() == getattr(cut, field).tolist()
    assert whole.truncated
    assert cut.truncated
    assert cut.total_tokens == pytest.approx(whole.total_tokens, rel=0.2)


def test_a_word_that_the_cut_divides_is_not_in_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    word = "x" * 64 + " "
    tokenizer = tiny.bpe_tokenizer(sentences=[word * 20], vocab_size=400)
    sample = Sample(text=word * 300)
    windows = range(120, 135)  # the cut divides one of these tokens
    whole = [Encoder(tokenizer, max_length=size).encode(sample) for size in windows]
    monkeypatch.setattr("geofilter.data.window._CUT_CHARACTERS", 1 << 13)
    cut = [Encoder(tokenizer, max_length=size).encode(sample) for size in windows]
    assert [encoded.ids.tolist() for encoded in cut] == [e.ids.tolist() for e in whole]


def test_long_tokens_are_not_lost_by_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    # One word of 300 KB is one token: the window reaches beyond the first cut.
    monkeypatch.setattr("geofilter.data.window._CUT_CHARACTERS", 1 << 13)
    tokenizer = tiny.word_tokenizer()
    sample = Sample((Turn("user", "x" * 300_000), Turn("assistant", "hello there")))
    encoded = Encoder(tokenizer, max_length=64).encode(sample)
    assert text_of(tokenizer, encoded, encoded.pooled) == "hello there"
    assert not encoded.truncated


@pytest.mark.parametrize(
    "content", ["a " * 5_000_000, "a" * 10_000_000, "<|im_end|>" * 1_000_000, "\n" * 10_000_000]
)
@pytest.mark.parametrize("template", [tiny.CHATML, tiny.CHATML_MARKED])
def test_ten_megabytes_take_seconds(content: str, template: str) -> None:
    encoder = Encoder(tiny.bpe_tokenizer(template), max_length=256)
    began = time.process_time()
    encoded = encoder.encode(Sample((Turn("user", "hi"), Turn("assistant", "Tea" + content))))
    assert len(encoded.ids) == 256
    assert time.process_time() - began < 10


def test_a_row_of_very_many_turns_takes_seconds() -> None:
    tokenizer = tiny.bpe_tokenizer()
    encoder = Encoder(tokenizer, max_length=256)
    began = time.process_time()
    encoded = encoder.encode(Sample(TWO_TURNS * 100_000))
    assert encoded.truncated
    pair = tokenizer.apply_chat_template(messages(TWO_TURNS))["input_ids"]
    assert encoded.total_tokens == pytest.approx(100_000 * len(pair), rel=0.05)
    assert time.process_time() - began < 3
