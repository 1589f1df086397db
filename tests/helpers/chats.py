"""Conversations, TRL's templates, and what a mask covers: shared by the tests of the encoder."""

import re
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from geofilter.data.encoder import Encoded
from geofilter.data.samples import Turn
from helpers import tiny

trl = pytest.importorskip("trl")
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
LONG_ENOUGH = 4096

TWO_TURNS = (Turn("user", "hello there?"), Turn("assistant", "A soup of leeks."))
FOUR_TURNS = (
    *TWO_TURNS,
    Turn("user", "And then, what?"),
    Turn("assistant", "I would walk home, have some tea."),
)


def trl_template(name: str) -> PreTrainedTokenizerBase:
    """A tiny tokenizer with a template of TRL's and the special tokens that it writes."""
    template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    special = re.findall(
        r"<[|｜][^<>\s'\"]{1,40}?[|｜]>|<(?:start|end)_of_turn>|<[a-z_]+\|>", template
    )
    return tiny.bpe_tokenizer(
        template, special=sorted(set(special)), added=["<think>", "</think>"], adds_bos=False
    )


def messages(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def text_of(tokenizer: PreTrainedTokenizerBase, encoded: Encoded, mask: np.ndarray) -> str:
    return tokenizer.decode(encoded.ids[mask], clean_up_tokenization_spaces=False)
