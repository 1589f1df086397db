"""Generated conversations through every chat template of TRL: the trainer's tokens and loss mask.

Each row is prepared by SFTTrainer's own code and by the readers and the encoder. Where they do not
say the same, a table below says why; anything else fails, in either direction: rows that one of
them refuses and the other takes, too.

`GEOFILTER_CONVERSATIONS=200 pytest tests/data/test_encoder_templates.py` tries more rows of each.
"""

import datetime
import os
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import Unscorable
from geofilter.data.samples import Sample
from helpers.chats import TEMPLATES, trl_template
from helpers.conversations import ASKED, FOUND, Row, rows
from helpers.trl_rows import TrlRow, trl_row

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("GEOFILTER_CONVERSATIONS", "100"))
NAMES = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
LONG_ENOUGH = 100_000

# --- why a mask is not that of TRL's training template ----------------------------------------

# With `assistant_only_loss` TRL takes a training template in the place of a stock one without
# markers. These put loss on a header as well, on the token that opens the next turn, or on the
# closing after a tool's answer: text of the template, that is never pooled.
ALSO_UNDER_LOSS = {
    "deepseek_r1_distill": ("<｜Assistant｜>", "<｜tool▁outputs▁end｜>"),
    "deepseekv3": ("<｜Assistant｜>", "<｜tool▁outputs▁end｜>"),
    "diffusion_gemma": ("<turn|>\n",),
    "glm4moe": ("<|user|>", "<|observation|>", "<|system|>"),
    "gptoss": ("<|start|>assistant",),
    "muse_glimmer": ("<|start|>assistant",),
    "qwen2_5": ("\n",),
}
# The training templates leave out a blank after each turn, and the end of the sequence where turns
# that are not rendered follow the last one that is.
NOT_UNDER_LOSS = {"llava_next": (" ",), "phi3": ("</s>",), "phi3_5": ("</s>",)}
# The training template writes some conversations in another way than the stock one, which is what
# other trainers see, and what the model is asked with; only the token ids can be compared then.
WRITTEN_OTHERWISE = {
    *("cohere2", "deepseek_r1_distill", "deepseekv3", "glm4moe", "qwen3", "qwen3_5_nothink"),
    *("qwen3_5_think", "qwen3_6"),
}
# (template, kind of conversation): what is odd about it.
ODD = {
    ("deepseekv3", "empty calls"): "writes the end of a list of calls in the place of the content",
}

# --- why a row is taken or refused that TRL refuses or takes ----------------------------------

# The template refuses a system turn. Other trainers put it before the first user's text.
FOLDS_SYSTEM = {"gemma", "gemma_training"}
# These read content parts and leave out a content that is one string; such rows are empty.
NO_STRINGS = ("idefics3", "llava_next", "smolvlm")
# A template of strings writes content parts as Python or JSON spells them; that is refused.
SPELLED_PARTS = ("{'type': 'text'", '{"type": "text"')


@lru_cache(maxsize=1)
def generated() -> tuple[Row, ...]:
    return tuple(rows(COUNT))


class _Day(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_Day":
        return cls(2025, 1, 1)  # the date that geofilter prints


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_mask_are_trls_or_the_reason_is_stated(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template_utils, "datetime", _Day)
    pair = _Pair(name)
    found = [(place, pair.difference(row)) for place, row in enumerate(generated())]
    differences = [(place, what) for place, what in found if what]
    assert not differences, f"{len(differences)} rows differ: {differences[:3]}"
    assert pair.compared


class _Pair:
    """One template, for the trainer and for geofilter."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.compared = 0
        self._tokenizer = trl_template(name)
        self._encoder = Encoder(self._tokenizer, max_length=LONG_ENOUGH)
        self._training, self._masks = _training_template(self._tokenizer)

    def difference(self, row: Row) -> str | None:
        """What differs without a reason; None if nothing does."""
        try:
            wanted = trl_row(self._tokenizer, row.columns, assistant_only=self._marks(row))
        except Exception as refusal:
            return self._taken(row, refusal)
        try:
            (sample,) = Layouts().samples(row.columns)
            encoded = self._encoder.encode(sample)
        except Unscorable as refusal:
            return self._refused(row, wanted, refusal)
        self.compared += 1
        if encoded.ids.tolist() != wanted.ids:
            return "token ids"
        mask = self._mask(row, wanted)
        if isinstance(mask, str):
            return mask
        return self._leaks(row, encoded, mask) or self._loss(row, sample, encoded, mask)

    def _marks(self, row: Row) -> bool:
        """Whether the mask is that of the template's own markers."""
        return self._masks and self._training is None and "prompt" not in row.columns

    def _taken(self, row: Row, refusal: Exception) -> str | None:
        try:
            (sample,) = Layouts().samples(row.columns)
            self._encoder.encode(sample)
        except Unscorable:
            return None
        if self.name in FOLDS_SYSTEM and "system" in row.kinds:
            return None
        return f"TRL refuses: {refusal}"

    def _refused(self, row: Row, wanted: TrlRow, refusal: Unscorable) -> str | None:
        status, reason = refusal.problem
        text = self._tokenizer.decode(wanted.ids)
        if status == "malformed" and "parts" in row.kinds and "content parts" in reason:
            return None if any(spelled in text for spelled in SPELLED_PARTS) else reason
        answers = [m for m in _after_prompt(row.columns) if m["role"] == "assistant"]
        answers = [message for message in answers if message.get("weight") != 0]
        if status == "no_response":
            return None if not answers else reason
        said = [text for message in answers for text in _texts(message) if text.strip()]
        if status == "empty" and self.name.startswith(NO_STRINGS):
            return None if any(isinstance(m["content"], str) for m in answers) else reason
        if status == "empty":
            # The template writes none of it.
            mask = self._mask(row, wanted)
            trained = wanted.ids if mask is None else np.array(wanted.ids)[mask].tolist()
            response = self._tokenizer.decode(trained)
            return None if not any(text.strip() in response for text in said) else reason
        return reason

    def _mask(self, row: Row, wanted: TrlRow) -> list[bool] | str | None:
        """The trainer's mask; None where there is none to compare with."""
        if "prompt" in row.columns or self._marks(row):
            return wanted.mask
        if not self._masks:
            return None
        trained = trl_row(
            self._tokenizer, row.columns, chat_template=self._training, assistant_only=True
        )
        if trained.ids == wanted.ids:
            return trained.mask
        return None if self.name in WRITTEN_OTHERWISE else "text of the training template"

    def _loss(
        self, row: Row, sample: Sample, encoded: Encoded, mask: list[bool] | None
    ) -> str | None:
        if (encoded.pooled & ~encoded.response).any():
            return "pooled without loss"
        if mask is None or any((self.name, kind) in ODD for kind in row.kinds):
            return None
        response = encoded.response
        if "weight" in row.kinds:
            # TRL reads no weights. Without them the mask is TRL's; they take turns out of it.
            turns = tuple(replace(turn, trained=True) for turn in sample.turns)
            whole = self._encoder.encode(replace(sample, turns=turns)).response
            if (response & ~whole).any():
                return "loss where a weight says none"
            response = whole
        wanted = np.array(mask)
        also = self._pieces(encoded, wanted & ~response)
        more = self._pieces(encoded, response & ~wanted)
        if set(also) <= set(ALSO_UNDER_LOSS.get(self.name, ())) and (
            set(more) <= set(NOT_UNDER_LOSS.get(self.name, ()))
        ):
            return None
        return f"mask: only TRL has {also}, only geofilter has {more}"

    def _leaks(self, row: Row, encoded: Encoded, mask: list[bool] | None) -> str | None:
        """What the user or a tool says is no response, except after a prompt, as in TRL."""
        if "prompt" in row.columns:
            return None
        trained = self._tokenizer.decode(encoded.ids[encoded.response])
        return next((word for word in (ASKED, FOUND) if word in trained), None)

    def _pieces(self, encoded: Encoded, mask: np.ndarray[Any, Any]) -> list[str]:
        groups = groupby(
            zip(mask.tolist(), encoded.ids.tolist(), strict=True), lambda both: both[0]
        )
        return [self._tokenizer.decode([i for _, i in each]) for inside, each in groups if inside]


def _training_template(tokenizer: PreTrainedTokenizerBase) -> tuple[str | None, bool]:
    """The template that TRL takes instead with `assistant_only_loss`; whether it has a mask."""
    if has_generation_markers(tokenizer.chat_template):
        return None, True
    try:
        return get_training_chat_template(tokenizer), True
    except ValueError:
        return None, False  # TRL has none for it


def _after_prompt(columns: dict[str, Any]) -> list[dict[str, Any]]:
    return columns["completion"] if "prompt" in columns else columns["messages"]


def _texts(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    if isinstance(content, list):
        return [part["text"] for part in content]
    names = ("reasoning_content", "thinking", "reasoning")
    return [content or "", *(message.get(name) or "" for name in names)]
