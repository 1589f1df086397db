"""Models that write responses to rows: on a server, or on this machine.

Each response is drawn at temperature 1 from all that the model may say, so that one by the model
itself is what it would say anyway, and another attempt may say something else.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property, partial
from typing import Any

from geofilter.data.problems import Unscorable
from geofilter.data.samples import Turn
from geofilter.errors import ModelError
from geofilter.model import fingerprint, loading
from geofilter.model.answers import draw, end_ids, opening_ids, room
from geofilter.model.causal import CausalModel, load_causal
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.threads import few_threads
from geofilter.selection.replacing import Ask, Reply, Writer
from geofilter.support.display import escape
from geofilter.support.endpoint import Endpoint, Failed, Passing, first_choice, split_address

TEMPERATURE = 1.0
MAX_NEW_TOKENS = 1024
_CUT = "is cut off"
# Of so many rows some get a reply, or something is wrong with all.
_FEW = 4


def writer_named(
    spec: str,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    trust_remote_code: bool = False,
) -> Writer:
    """The model of `http://HOST/v1#MODEL`, or one here: a name of the catalogue, folder or hub id.

    Raises `ModelError` for one that cannot be opened or is no chat model, and `MissingExtraError`.
    """
    try:
        address = split_address(spec)
    except ModelError as error:
        raise ModelError(f"{error}; write --replace-with http://HOST/v1#MODEL") from error
    if address is not None:
        return ServedWriter(*address, max_new_tokens=max_new_tokens)
    _, tokenizer = loading.read_texts(open_checkpoint(spec), trust_remote_code)
    if tokenizer.chat_template is None:
        raise ModelError(
            f"{escape(spec, limit=200)}: has no chat template, so it writes no responses; name a "
            "chat model with --replace-with"
        )
    return LocalWriter(spec, max_new_tokens=max_new_tokens, trust_remote_code=trust_remote_code)


class ServedWriter:
    """Has the model `model` of the server at `url` write; see `Endpoint`."""

    at_once = 32

    def __init__(
        self,
        url: str,
        model: str,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        concurrency: int = 8,
        timeout: float = 120.0,
        tries: int = 5,
        pause: float = 1.0,
    ) -> None:
        self._endpoint = Endpoint(
            url, model, who="the model", timeout=timeout, tries=tries, pause=pause
        )
        self._max_new_tokens, self._concurrency = max_new_tokens, concurrency
        self.name = f"{model} at {url}"

    def describe(self) -> dict[str, object]:
        """Server and model by their names, and how long a response may be."""
        endpoint = self._endpoint
        return {"url": endpoint.url, "model": endpoint.model, "max_tokens": self._max_new_tokens}

    def __call__(
        self, asks: Sequence[Ask], attempt: int, wanted: Collection[int]
    ) -> Iterator[tuple[int, Reply]]:
        """Each reply as it comes. Raises `ModelError` where no reply comes at all."""
        self._endpoint.begin()
        pool = ThreadPoolExecutor(self._concurrency)
        failures: list[str] = []
        try:
            waiting = {
                pool.submit(self._ask, one.turns): one.row for one in asks if one.row in wanted
            }
            for future in as_completed(waiting):
                reply = future.result()
                if reply.text is None and reply.fault is not None:
                    failures.append(reply.fault)
                yield waiting[future], reply
        finally:
            self._endpoint.stop()
            pool.shutdown(cancel_futures=True)
        if len(failures) == len(waiting) >= _FEW:
            raise ModelError(
                f"{self._endpoint.shown}: replies to nothing that it is asked: {failures[0]}; what "
                "was replied before is kept, run the same command again to go on"
            )

    def _ask(self, turns: Sequence[Turn]) -> Reply:
        messages = [
            # A developer's turn is what servers of open models call the system's.
            {"role": "system" if one.role == "developer" else one.role, "content": one.content}
            for one in turns
        ]
        try:
            return self._endpoint.ask(
                messages, _read, temperature=TEMPERATURE, max_tokens=self._max_new_tokens
            )
        except Failed as failure:
            return Reply(None, str(failure), lasting=failure.refused)
        except ModelError:
            self._endpoint.stop()
            raise


def _read(body: bytes) -> Reply:
    """What a completion says, and what it says of itself. Raises `Passing` for no completion."""
    choice = first_choice(body)
    if choice is None:
        raise Passing("the model sent what is no completion")
    message, ended = choice["message"], choice.get("finish_reason")
    text = message.get("content")
    if ended == "content_filter" or message.get("refusal"):
        return Reply(None, "is a refusal")
    if message.get("tool_calls"):
        return Reply(None, "calls a tool")
    if not isinstance(text, str):
        return Reply(None, "is empty")
    return Reply(text, _CUT if ended == "length" else None)


class LocalWriter:
    """Has the model `source` on this machine write; `load` loads it, when it is first asked."""

    def __init__(
        self,
        source: str,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        trust_remote_code: bool = False,
        at_once: int = 32,
        seed: int = 0,
        load: Callable[[], CausalModel] | None = None,
    ) -> None:
        self.name, self.at_once = source, at_once
        self._max_new_tokens, self._seed = max_new_tokens, seed
        self._load = load or partial(
            load_causal, source, device="auto", dtype=None, trust_remote_code=trust_remote_code
        )

    def describe(self) -> dict[str, object]:
        """The model's files and what decides what is drawn; nothing is loaded."""
        return {
            "model": fingerprint.of_files(open_checkpoint(self.name)),
            "max_tokens": self._max_new_tokens,
            "seed": self._seed,
        }

    def __call__(
        self, asks: Sequence[Ask], attempt: int, wanted: Collection[int]
    ) -> Iterator[tuple[int, Reply]]:
        """The replies, batch by batch: prompts that would cut off each other's are apart."""
        network, tokenizer = self._model
        ends = end_ids(network, tokenizer)
        batches: dict[int, list[tuple[int, list[int]]]] = {}
        for one in asks:
            try:
                ids = opening_ids(tokenizer, one.turns)
                roomy = room(network, len(ids)) >= self._max_new_tokens
            except (Unscorable, ModelError) as error:
                why = error.problem.reason if isinstance(error, Unscorable) else error
                if one.row in wanted:
                    yield one.row, Reply(None, f"cannot be asked for: {why}")
                continue
            batches.setdefault(0 if roomy else len(ids), []).append((one.row, ids))
        for batch in batches.values():
            # A batch shares its random numbers, so that a part of one is drawn as a whole.
            if any(row in wanted for row, _ in batch):
                yield from self._drawn(network, tokenizer, batch, attempt, ends, wanted)

    @cached_property
    def _model(self) -> CausalModel:
        return self._load()

    def _drawn(
        self,
        network: Any,
        tokenizer: Any,
        batch: Sequence[tuple[int, list[int]]],
        attempt: int,
        ends: Sequence[int],
        wanted: Collection[int],
    ) -> Iterator[tuple[int, Reply]]:
        import torch

        rows = [row for row, _ in batch]
        digest = hashlib.blake2b(f"{self._seed} {attempt} {rows}".encode(), digest_size=7)
        torch.manual_seed(int.from_bytes(digest.digest(), "big"))
        with few_threads(network):
            found = draw(
                network,
                tokenizer,
                [ids for _, ids in batch],
                temperature=TEMPERATURE,
                max_new_tokens=self._max_new_tokens,
                ends=ends,
            )
        for row, one in zip(rows, found, strict=True):
            if row in wanted:
                yield row, Reply(one.text, None if one.ended else _CUT)
