"""A model's own answers to the prompts of samples, for scores that compare a row with them.

Chen and others (2025, *Persona Vectors*, section 6.1 and appendix L.1) take the answer that the
model gives before training, decoded greedily. Each prompt is answered once: rows that share one
share the answer. Answers are filed by all that decides them, so that a run that was killed, or
another pack or block of the same model, generates none of them again.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from geofilter.data.encoder import Encoded, special_ids
from geofilter.errors import ModelError, OutputError
from geofilter.model import fingerprint
from geofilter.model.activations import TokenBudget, in_batches, residuals
from geofilter.model.answers import draw, end_ids
from geofilter.model.gradients import require_whole
from geofilter.model.threads import few_threads
from geofilter.support.display import shown

if TYPE_CHECKING:
    from geofilter.model.loading import LoadedModel

# Tokens of an answer: a mean over them hardly moves with more, and each costs a pass.
ANSWER_TOKENS = 128
DECODING = {"decoding": "greedy", "max_new_tokens": ANSWER_TOKENS}
# Tokens of prompts and answers in a batch. One pass makes one token of each answer, so that
# more at once cost a CPU little.
_CPU_BUDGET, _GPU_BUDGET = 8192, 32768
# Seconds to wait while another worker writes.
_PATIENCE = 60.0


def prompt_of(sample: Encoded) -> NDArray[np.int32]:
    """The tokens before the last response of a sample: what its last assistant turn answers."""
    last = int(np.flatnonzero(sample.response)[-1])
    before = np.flatnonzero(~sample.response[:last])
    return sample.ids[: int(before[-1]) + 1 if len(before) else 0]


def tokens_at_once(device: torch.device) -> int:
    """Tokens of prompts and answers that a batch holds, with a key and a value in each block."""
    return _CPU_BUDGET if device.type == "cpu" else _GPU_BUDGET


class _Asked(NamedTuple):
    """A prompt that no answer is known to, and how many tokens the answer may have."""

    key: bytes
    prompt: NDArray[np.int32]
    room: int

    def tokens(self) -> int:
        return len(self.prompt) + self.room


class OwnAnswers:
    """What a model answers to the prompts of samples. Raises `ModelError` if it cannot answer.

    The answers that are known lie in a temporary file, or at the place that `keep` names.
    """

    def __init__(self, model: "LoadedModel") -> None:
        if not model.causal:
            raise ModelError(
                f"{shown(model.name)}: is no causal language model, so that it answers no prompt; "
                "use --scorer persona"
            )
        require_whole(model)
        self._model = model
        self._path: Path | None = None
        self._budget = TokenBudget(tokens_at_once(model.device))
        self._reading = TokenBudget.for_device(model.device)

    def keep(self, path: Path) -> None:
        """Keep the answers in a file at `path`, and take those that are there. Call it first."""
        self._path = path

    def means(self, samples: Sequence[Encoded]) -> list[NDArray[np.float32]]:
        """The mean residual stream at the output of block L over each sample's own answer.

        (d_model,) each; NaN where there is no prompt or no answer.
        """
        answered = self.samples(samples)
        distinct = {one.ids.tobytes(): one for one in answered if one is not None}
        with few_threads(self._model.network):
            means = in_batches(list(distinct.values()), self._read, self._reading)
        found = dict(zip(distinct, means, strict=True))
        nothing = np.full(self._model.d_model, np.nan, np.float32)
        return [nothing if one is None else found[one.ids.tobytes()] for one in answered]

    def samples(self, samples: Sequence[Encoded]) -> list[Encoded | None]:
        """Each sample's prompt with the model's own answer as the response; None where neither is.

        Pooled are the tokens of the answer that are no special ones.
        """
        prompts = {prompt.tobytes(): prompt for prompt in map(prompt_of, samples)}
        asked = [one for one in prompts.values() if not np.isin(one, self._special).all()]
        with few_threads(self._model.network):
            answered = [self._encoded(*pair) for pair in zip(asked, self(asked), strict=True)]
        found = {
            prompt.tobytes(): one
            for prompt, one in zip(asked, answered, strict=True)
            if one.pooled.any()
        }
        return [found.get(prompt_of(sample).tobytes()) for sample in samples]

    def __call__(self, prompts: Sequence[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
        """The tokens of the answer to each prompt, without that which ends it.

        A batch is kept as soon as it is there. Raises `OutputError` where it cannot be.
        """
        keys = [self._key(prompt) for prompt in prompts]
        known = {key: answer for key in keys if (answer := self._find(key)) is not None}
        missing = {key: p for key, p in zip(keys, prompts, strict=True) if key not in known}
        # Together only what may be equally long: the others of a batch decide no answer.
        order = sorted(missing.items(), key=lambda item: -self._room(item[1]))
        for room, group in groupby(order, key=lambda item: self._room(item[1])):
            asked = [_Asked(key, prompt, room) for key, prompt in group]
            answers = in_batches(asked, self._answer, self._budget, size=_Asked.tokens)
            known.update(zip((one.key for one in asked), answers, strict=True))
        return [known[key] for key in keys]

    def _room(self, prompt: NDArray[np.int32]) -> int:
        return min(ANSWER_TOKENS, self._model.max_context - len(prompt))

    def _answer(self, batch: list[_Asked]) -> list[NDArray[np.int32]]:
        model = self._model
        found = draw(
            model.network,
            model.tokenizer,
            [one.prompt.tolist() for one in batch],
            temperature=0.0,
            max_new_tokens=batch[0].room,
            ends=self._ends,
        )
        answers = [np.array(one.tokens, np.int32) for one in found]
        self._add([(one.key, answer.tobytes()) for one, answer in zip(batch, answers, strict=True)])
        return answers

    def _encoded(self, prompt: NDArray[np.int32], answer: NDArray[np.int32]) -> Encoded:
        ids = np.concatenate([prompt, answer])
        response = np.arange(len(ids)) >= len(prompt)
        pooled = response & ~np.isin(ids, self._special)
        return Encoded(ids, response, pooled, False, len(ids), None)

    def _read(self, batch: list[Encoded]) -> list[NDArray[np.float32]]:
        hidden = residuals(self._model, batch)  # (batch, longest, d_model)
        found: list[NDArray[np.float32]] = []
        for row, one in enumerate(batch):
            pooled = torch.from_numpy(np.flatnonzero(one.pooled)).to(hidden.device)
            mean: NDArray[np.float32] = hidden[row][pooled].float().mean(dim=0).cpu().numpy()
            found.append(mean)
        return found

    # What decides an answer besides its prompt

    @cached_property
    def _ends(self) -> list[int]:
        return end_ids(self._model.network, self._model.tokenizer)

    @cached_property
    def _special(self) -> NDArray[np.int32]:
        return special_ids(self._model.tokenizer)

    @cached_property
    def _model_key(self) -> str:
        network = self._model.network
        whole = fingerprint.of_whole(network)
        return f"{whole} {self._model.rounded} {network.dtype} {self._ends} {DECODING}"

    def _key(self, prompt: NDArray[np.int32]) -> bytes:
        digest = hashlib.blake2b(self._model_key.encode(), digest_size=16)
        digest.update(prompt.astype("<i4").tobytes())
        return digest.digest()

    # The answers that are known

    @cached_property
    def _base(self) -> sqlite3.Connection:
        # On disk: memory does not grow with the number of prompts. One thread at a time uses it.
        base = sqlite3.connect(self._path or "", timeout=_PATIENCE, check_same_thread=False)
        with self._writing(), base:
            base.execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(prompt BLOB PRIMARY KEY, tokens BLOB NOT NULL) WITHOUT ROWID"
            )
        return base

    def _find(self, key: bytes) -> NDArray[np.int32] | None:
        with self._writing():
            found = self._base.execute(
                "SELECT tokens FROM answers WHERE prompt = ?", (key,)
            ).fetchone()
        return None if found is None else np.frombuffer(found[0], np.int32)

    def _add(self, answers: list[tuple[bytes, bytes]]) -> None:
        with self._writing(), self._base as base:
            base.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", answers)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OutputError(
                f"{shown(self._path or 'a temporary file')}: answers cannot be kept ({error}); "
                "remove it, free some space, or choose another output with -o"
            ) from error
