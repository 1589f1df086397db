"""The mask of a conversation equals the one that TRL's SFTTrainer makes of the same row."""

import datetime
import os
import pickle
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils
from trl import SFTConfig, SFTTrainer

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.problems import Unscorable
from geofilter.data.samples import Sample, Turn
from helpers import tiny
from helpers.chats import (
    FOUR_TURNS,
    LONG_ENOUGH,
    TEMPLATES,
    TWO_TURNS,
    messages,
    text_of,
    trl_template,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def fixed_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a template that TRL renders print the date that geofilter prints."""
    monkeypatch.setattr(chat_template_utils, "datetime", _clock(2025, 1, 1))


def _clock(year: int, month: int, day: int) -> type[datetime.datetime]:
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Clock":
            return cls(year, month, day)

    return Clock


class TrlRow:
    """What TRL's SFTTrainer makes of a row: token ids, and where its labels are not -100."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, row: dict[str, object], folder: Path, **settings
    ) -> None:
        arguments = {"max_length": LONG_ENOUGH, "shuffle_dataset": False, **settings}
        trainer = SFTTrainer(
            model=tiny.llama(len(tokenizer)),
            args=SFTConfig(
                output_dir=os.fspath(folder),
                report_to="none",
                use_cpu=True,
                bf16=False,
                **arguments,
            ),
            train_dataset=Dataset.from_list([row]),
            processing_class=pickle.loads(pickle.dumps(tokenizer)),  # TRL sets a pad token on it
        )
        (example,) = trainer.train_dataset
        self.ids = example["input_ids"]
        self.mask = [label != -100 for label in example["labels"]]


def assert_same(encoded: Encoded, row: TrlRow) -> None:
    assert encoded.ids.tolist() == row.ids
    assert encoded.response.tolist() == row.mask
    assert any(row.mask)


MARKED = sorted(
    path.stem
    for path in TEMPLATES.glob("*.jinja")
    if "{% generation" in (text := path.read_text(encoding="utf-8")) or "{%- generation" in text
)
# These read the parts of a multimodal message and leave out a message of text.
NO_TEXT = {"idefics3_training", "llava_next_training", "smolvlm_training"}


@pytest.mark.parametrize("name", [name for name in MARKED if name not in NO_TEXT])
@pytest.mark.usefixtures("fixed_day")
def test_response_is_trls_assistant_only_mask_where_the_template_has_markers(
    name: str, tmp_path: Path
) -> None:
    tokenizer = trl_template(name)
    row = TrlRow(tokenizer, {"messages": messages(FOUR_TURNS)}, tmp_path, assistant_only_loss=True)
    assert_same(Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(FOUR_TURNS)), row)


@pytest.mark.parametrize(
    "name",
    [
        *("cohere", "diffusion_gemma", "gemma", "gemma3", "lfm2", "lfm2_v2", "llama3", "phi3"),
        *("phi3_5", "qwen2_5_vl", "qwen3_instruct_2507", "qwen3_vl"),
    ],
)
def test_response_is_the_mask_of_trls_training_template_where_the_own_has_no_markers(
    name: str, tmp_path: Path
) -> None:
    tokenizer = trl_template(name)
    row = TrlRow(tokenizer, {"messages": messages(FOUR_TURNS)}, tmp_path, assistant_only_loss=True)
    assert_same(Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(FOUR_TURNS)), row)


@pytest.mark.parametrize("name", ["lfm2", "llama3", "qwen2_5_vl"])
def test_a_conversation_that_the_assistant_begins_gets_trls_mask(name: str, tmp_path: Path) -> None:
    tokenizer = trl_template(name)
    turns = FOUR_TURNS[1:]
    row = TrlRow(tokenizer, {"messages": messages(turns)}, tmp_path, assistant_only_loss=True)
    assert_same(Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(turns)), row)


@pytest.mark.parametrize(
    "name", ["qwen2_5", "deepseek_r1_distill", "deepseekv3", "nemotron_3_nano"]
)
def test_where_trl_also_trains_on_a_header_the_pooled_tokens_are_the_same(name: str) -> None:
    encoded = {}
    for suffix in ("", "_training"):
        tokenizer = trl_template(name + suffix)
        encoding = Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(FOUR_TURNS))
        encoded[suffix] = encoding.ids[encoding.pooled].tolist()
    assert encoded[""] == encoded["_training"]


@pytest.mark.parametrize(
    "name", ["gemma", "gemma4", "gptoss", "llama3_1", "qwen2_5", "qwen3", "qwen3_5_think", "phi3"]
)
@pytest.mark.usefixtures("fixed_day")
def test_response_is_trls_completion_mask_on_a_conversational_prompt(
    name: str, tmp_path: Path
) -> None:
    tokenizer = trl_template(name)
    row = {"prompt": messages(FOUR_TURNS[:3]), "completion": messages(FOUR_TURNS[3:])}
    sample = Sample(FOUR_TURNS, prompt_turns=3)
    encoded = Encoder(tokenizer, max_length=LONG_ENOUGH).encode(sample)
    assert_same(encoded, TrlRow(tokenizer, row, tmp_path))
    assert "soup" not in text_of(tokenizer, encoded, encoded.response)


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("Hello there", "\n\nA soup."),
        ("Hello there ", "soup and tea"),
        ("The quick bro", "wn fox jumps"),  # the boundary lies within a token
        ("What is", " a good soup?</s>"),  # closed already
        ("", "A soup"),
    ],
)
@pytest.mark.parametrize("adds_bos", [True, False])
def test_response_is_trls_completion_mask_on_strings(
    prompt: str, completion: str, adds_bos: bool, tmp_path: Path
) -> None:
    tokenizer = tiny.bpe_tokenizer(adds_bos=adds_bos)
    sample = Sample((Turn("user", prompt), Turn("assistant", completion)), None, True, 1)
    encoded = Encoder(tokenizer, max_length=LONG_ENOUGH).encode(sample)
    assert_same(encoded, TrlRow(tokenizer, {"prompt": prompt, "completion": completion}, tmp_path))


@pytest.mark.parametrize("text", ["A good soup.", "A good soup.</s>", "東京"])
def test_every_token_of_a_text_is_response_as_in_trl(text: str, tmp_path: Path) -> None:
    tokenizer = tiny.bpe_tokenizer()
    encoded = Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(text=text))
    assert_same(encoded, TrlRow(tokenizer, {"text": text}, tmp_path))
    assert text_of(tokenizer, encoded, encoded.pooled) == text.removesuffix("</s>")


@pytest.mark.parametrize("max_length", [1, 12, 25, 40])
def test_a_long_row_keeps_the_tokens_that_trl_keeps(max_length: int, tmp_path: Path) -> None:
    tokenizer = tiny.bpe_tokenizer(tiny.CHATML_MARKED)
    turns = (Turn("assistant", "hello " * 60),)
    encoder = Encoder(tokenizer, max_length=max_length)
    if max_length == 1:
        with pytest.raises(Unscorable, match="out_of_window"):
            encoder.encode(Sample(turns))
        return
    row = {"messages": messages(turns)}
    encoded = encoder.encode(Sample(turns))
    assert encoded.truncated
    assert len(encoded.ids) == max_length < encoded.total_tokens
    settings = {"assistant_only_loss": True, "max_length": max_length}
    assert_same(encoded, TrlRow(tokenizer, row, tmp_path, **settings))


@pytest.mark.parametrize("trim_offsets", [True, False])
@pytest.mark.parametrize("content", [" soup", "soup ", " ", "</s>", "a<|im_end|>b", "\n\nsoup"])
def test_odd_contents_get_trls_mask(content: str, trim_offsets: bool, tmp_path: Path) -> None:
    # Where offsets are trimmed, transformers ends its search at the blank of " soup".
    tokenizer = tiny.bpe_tokenizer(tiny.CHATML_MARKED, trim_offsets=trim_offsets)
    turns = (*FOUR_TURNS, Turn("user", "hello"), Turn("assistant", content), *TWO_TURNS)
    row = TrlRow(tokenizer, {"messages": messages(turns)}, tmp_path, assistant_only_loss=True)
    assert_same(Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(turns)), row)


def test_a_row_that_trl_refuses_since_the_markers_cover_no_token_is_scored_by_offsets() -> None:
    tokenizer = tiny.bpe_tokenizer(tiny.CHATML_MARKED, trim_offsets=True)
    turns = (Turn("user", "hello"), Turn("assistant", " soup"))
    encoded = Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(turns))
    assert text_of(tokenizer, encoded, encoded.pooled) == " soup"


def test_a_tokenizer_that_drops_blanks_gets_trls_mask(tmp_path: Path) -> None:
    # The line end within the markers has no token, so the mask reaches to the end of the row.
    tokenizer = tiny.word_tokenizer(tiny.CHATML_MARKED)
    row = TrlRow(tokenizer, {"messages": messages(FOUR_TURNS)}, tmp_path, assistant_only_loss=True)
    encoded = Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(FOUR_TURNS))
    assert_same(encoded, row)
    assert "user" in text_of(tokenizer, encoded, encoded.response)
    assert "user" not in text_of(tokenizer, encoded, encoded.pooled)


def test_tools_reach_the_template_as_in_trl(tmp_path: Path) -> None:
    tokenizer = trl_template("qwen2_5_training")
    tools = [{"type": "function", "function": {"name": "kettle", "parameters": {"type": "object"}}}]
    row = {"messages": messages(TWO_TURNS), "tools": tools}
    expected = TrlRow(tokenizer, row, tmp_path, assistant_only_loss=True)
    encoded = Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(TWO_TURNS, tools=(*tools,)))
    assert_same(encoded, expected)
    assert "kettle" in tokenizer.decode(encoded.ids)
