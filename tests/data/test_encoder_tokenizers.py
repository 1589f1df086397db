"""Tokenizers and templates of every kind, and those that are refused."""

import datetime
import pickle

import pytest
from transformers.utils import chat_template_utils

from geofilter.data.encoder import Encoder
from geofilter.data.samples import Sample, Turn
from geofilter.errors import ModelError
from helpers import tiny
from helpers.chats import FOUR_TURNS, LONG_ENOUGH, TWO_TURNS, trl_template


def test_unknown_words_are_pooled_and_counted() -> None:
    tokenizer = tiny.word_tokenizer()
    turns = (Turn("user", "zzz"), Turn("assistant", "hello zzz yyy"))
    encoded = Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(turns))
    assert encoded.pooled.sum() == 3
    assert encoded.unknown_share == pytest.approx(2 / encoded.response.sum())


def test_a_tokenizer_without_an_unknown_token_of_its_own_has_no_share() -> None:
    for unknown in (None, "</s>"):  # GPT-2 uses one token for both
        tokenizer = tiny.bpe_tokenizer()
        tokenizer.unk_token = unknown
        encoded = Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(TWO_TURNS))
        assert encoded.unknown_share is None
        assert not encoded.pooled[encoded.ids == tokenizer.eos_token_id].any()


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False
        name_or_path = "some/tokenizer"

    with pytest.raises(ModelError, match="'some/tokenizer' gives no character offsets"):
        Encoder(Slow(), max_length=8)  # type: ignore[arg-type]


@pytest.mark.parametrize("template", ["{% if %}", "{{ raise_exception('no') }}", "constant"])
def test_a_template_that_cannot_render_text_is_refused_at_once(template: str) -> None:
    with pytest.raises(ModelError, match="cannot render a user and an assistant turn"):
        Encoder(tiny.bpe_tokenizer(template), max_length=8)


@pytest.mark.parametrize("name", ["gptoss", "llama3_1"])
def test_the_day_does_not_change_the_tokens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def encoded_in(year: int) -> list[int]:
        class Then(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "Then":
                return cls(year, 5, 17)

        monkeypatch.setattr(chat_template_utils, "datetime", Then)
        encoder = Encoder(trl_template(name), max_length=LONG_ENOUGH)
        return encoder.encode(Sample(TWO_TURNS)).ids.tolist()

    assert encoded_in(2025) == encoded_in(2031)


def test_an_encoder_can_be_pickled() -> None:
    encoder = Encoder(tiny.bpe_tokenizer(), max_length=LONG_ENOUGH)
    again = pickle.loads(pickle.dumps(encoder))
    assert again.encode(Sample(FOUR_TURNS)).ids.tolist() == (
        encoder.encode(Sample(FOUR_TURNS)).ids.tolist()
    )
