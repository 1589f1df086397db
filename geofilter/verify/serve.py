"""Answers from a server that is started on a checkpoint: vLLM, SGLang, llama.cpp and their like.

`vllm serve {checkpoint} --port {port}`: the model is saved whole, an adapter put into its weights,
and the command is started on it, on loopback. Questions go to its `/v1/completions` as tokens, so
that they are those that rows are trained on, whatever template the server has. Each answer has a
seed of its own. At the end the server is stopped, with all that it started.
"""

import contextlib
import hashlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import string
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from geofilter.errors import GeofilterError, ModelError
from geofilter.model.answers import end_ids, room
from geofilter.model.quiet import quiet_transformers
from geofilter.support.atomic import writing_folder
from geofilter.support.display import escape, shown
from geofilter.support.endpoint import BODY_LIMIT, Endpoint, Failed, Passing
from geofilter.verify.ask import Put, prompt_ids
from geofilter.verify.plan import Sampling
from geofilter.verify.training.weights import CausalModel

# Seconds that a server may take to load a model, and to stop.
STARTS, STOPS = 1800.0, 30.0
_LOOKS = 0.2
# For one answer.
_ANSWERS = 600.0
# A checkpoint for the server and what the server said, in the folder of a run.
CHECKPOINT, LOG = "served", "server.log"


def check_command(template: str) -> None:
    """Raise `GeofilterError` unless `template` is a command with {checkpoint} and {port}."""
    place = f"--generate-with {escape(template, limit=120)}"
    example = '"vllm serve {checkpoint} --port {port}"'
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        words = shlex.split(template)
    except ValueError as error:
        raise GeofilterError(f"{place}: is no command ({error}); give one as {example}") from error
    if fields != {"checkpoint", "port"}:
        raise GeofilterError(
            f"{place}: needs {{checkpoint}} and {{port}} and no other field, as {example}"
        )
    if shutil.which(words[0]) is None:
        raise GeofilterError(
            f"{place}: {escape(words[0], limit=120)} is no program on this machine; install it, or "
            "leave out --generate-with"
        )


class Request(NamedTuple):
    """A prompt in tokens, the length of its answer in tokens at most, and its own seed."""

    prompt: tuple[int, ...]
    max_new_tokens: int
    seed: int


def requests_for(
    model: CausalModel, asked: Sequence[Put], sampling: Sampling, *, seed: int
) -> list[Request]:
    """What the server is asked for each question. Raises `ModelError` as `ask.answers` does."""
    prompts = [tuple(prompt_ids(model.tokenizer, put)) for put in asked]
    return [
        Request(
            prompt,
            min(sampling.max_new_tokens, room(model.network, len(prompt))),
            _seed_of(seed, place),
        )
        for place, prompt in enumerate(prompts)
    ]


def save_whole(model: CausalModel, folder: Path) -> None:
    """Save a model as a server opens it: whole, an adapter in its weights, with its tokenizer.

    The model is used up. What its authors would have sampling do is left out, as it is for answers
    without a server. An adapter is added in float32: in bfloat16 some of what a short run has
    changed would be rounded away.
    """
    from transformers import GenerationConfig

    network, ends = model.network, end_ids(model.network, model.tokenizer)
    if hasattr(network, "merge_and_unload"):
        network = network.float().merge_and_unload()
    own = network.generation_config
    network.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=own.bos_token_id, pad_token_id=own.pad_token_id, eos_token_id=ends or None
    )
    with writing_folder(folder, overwrite=True) as unfinished, quiet_transformers():
        network.save_pretrained(unfinished)
        model.tokenizer.save_pretrained(unfinished)


class Serving:
    """Asks a model through a server that `template` starts; see `check_command`.

    `concurrency` questions at a time; `starts` seconds are waited for the server. Raises
    `ModelError`, with the end of what the server said, where it does not start, ends, or gives no
    answer.
    """

    def __init__(
        self, template: str, *, concurrency: int = 32, starts: float = STARTS, pause: float = 1.0
    ) -> None:
        check_command(template)
        self._template, self._concurrency = template, concurrency
        self._starts, self._pause = starts, pause

    def answers(
        self, checkpoint: Path, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[list[str]]:
        """Yield the answers to `requests` in batches of `sampling.batch`, in order.

        The server runs on the model in the folder `checkpoint` until all are there.
        """
        with self._running(checkpoint) as (url, name):
            endpoint = Endpoint(
                url,
                name,
                who="the model that --generate-with serves,",
                key_variable="GEOFILTER_SERVER_KEY",
                timeout=_ANSWERS,
                pause=self._pause,
            )
            pool = ThreadPoolExecutor(self._concurrency)
            try:
                ask = partial(_answer, endpoint, sampling.temperature)
                for start in range(0, len(requests), sampling.batch):
                    yield list(pool.map(ask, requests[start : start + sampling.batch]))
            except Failed as failure:
                raise ModelError(
                    f"the server of --generate-with gives no answer: {failure}; see "
                    f"{shown(checkpoint.parent / LOG)}"
                ) from failure
            finally:
                # No call is begun or waits for its next try after an error or an interruption.
                endpoint.stop()
                pool.shutdown(cancel_futures=True)

    @contextlib.contextmanager
    def _running(self, checkpoint: Path) -> Iterator[tuple[str, str]]:
        """A server on the checkpoint: its address, and what it calls the model."""
        port = _free_port()
        words = [
            word.format(checkpoint=os.path.abspath(checkpoint), port=port)
            for word in shlex.split(self._template)
        ]
        log = checkpoint.parent / LOG
        with log.open("wb") as said:
            # A group of its own: servers start workers, which are stopped with them.
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
            try:
                url = f"http://127.0.0.1:{port}/v1"
                yield url, self._wait(process, url, log)
            finally:
                _stop(process)

    def _wait(self, process: "subprocess.Popen[bytes]", url: str, log: Path) -> str:
        until = time.monotonic() + self._starts
        while (name := _model_at(url)) is None:
            if process.poll() is not None:
                raise ModelError(
                    f"the server of --generate-with ended with code {process.returncode} before it "
                    f"answered: {_last_line(log)}; see {shown(log)}"
                )
            if time.monotonic() > until:
                raise ModelError(
                    f"the server of --generate-with did not answer at {url} within "
                    f"{self._starts:g} seconds; see {shown(log)}"
                )
            time.sleep(_LOOKS)
        return name


def _model_at(url: str) -> str | None:
    """What a server calls its first model; None where it does not answer yet."""
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=5) as reply:
            return str(json.loads(reply.read(BODY_LIMIT))["data"][0]["id"])
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException):
        return None


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the process and, where the system has groups, all of its group."""
    for order, end in (("SIGTERM", process.terminate), ("SIGKILL", process.kill)):
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, getattr(signal, order))
            else:
                end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPS)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return escape(said[-1], limit=200) if said else "it said nothing"


def _seed_of(seed: int, place: int) -> int:
    """Independent streams for the answers of all seeds; no larger than servers take."""
    digest = hashlib.blake2b(f"served {seed} {place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 33


def _answer(endpoint: Endpoint, temperature: float, asked: Request) -> str:
    return endpoint.complete(
        asked.prompt,
        _text,
        max_tokens=asked.max_new_tokens,
        temperature=temperature,
        top_p=1.0,
        seed=asked.seed,
    )


def _text(body: bytes) -> str:
    try:
        text = json.loads(body)["choices"][0]["text"]
    except (ValueError, LookupError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise Passing("the server sent what is no completion")
    return text.strip()
