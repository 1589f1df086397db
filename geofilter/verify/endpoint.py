"""A judge behind an OpenAI-compatible server: chat completions with log probabilities.

One call per prompt, temperature 0. Which rule reads the replies is found out once, from a
few prompts, and then holds for all: probabilities of the first token (`max_tokens=1`,
`top_logprobs=20`) where the server gives them and the judge writes a number as one token,
the first integer of a short reply otherwise. A judge that writes 85 as "8", "5" would
score 8 by its first token.

What is over soon (a time-out, 429, 5xx, a reply that is no completion) is tried again a
few times and then leaves the answer unscored. What no repeating helps (no server, a wrong
key, an unknown model) stops at once.

This module knows nothing about arms or rates.
"""

import contextlib
import json
import math
import os
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from geofilter.errors import MissingExtraError, ModelError
from geofilter.terminal import escape
from geofilter.verify.judge import (
    Asked,
    Judgement,
    Score,
    as_integer,
    score_of_probabilities,
    score_of_text,
)
from geofilter.verify.questions import ASPECTS, Question, fill, require_prompts

Rule = Literal["probabilities", "first integer"]

TOP_LOGPROBS = 20
# Enough for a number and a word or two around it.
REPLY_TOKENS = 8
# Prompts after which a judge that never wrote a number of two digits is read by its text.
PROBES = 8
LONGEST_WAIT = 60.0  # seconds

_MAY_PASS = {408, 409, 425, 429}
# The server's word on this one prompt: too long, mostly.
_OF_THE_PROMPT = {400, 413, 422}


class _Reply(NamedTuple):
    """`first`: probabilities of the first token, where the server tells; `tokens` likewise."""

    text: str
    first: dict[str, float] | None
    tokens: tuple[str, ...]


class _Failed(Exception):
    """No reply, with the reason. `refused`: the server does not take the request as it is."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class EndpointJudge:
    """Judges by the model `model` of the server at `url` (`http://HOST/v1`).

    The key is the value of the environment variable `key_variable`; a server that wants
    none gets none. `tries` calls at most per prompt, `timeout` seconds each, with pauses
    that begin at `pause` seconds and double; `concurrency` calls at a time. Raises
    `MissingExtraError` without the `openai` package.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_variable: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        tries: int = 5,
        pause: float = 1.0,
        concurrency: int = 8,
    ) -> None:
        self._openai = _import_openai()
        if urlsplit(url).username is not None:
            raise ModelError(
                f"the address of a judge holds no name or key; put the key into ${key_variable}"
            )
        self._url, self._model = url, model
        self._key = os.environ.get(key_variable) or "none"
        self._client = self._openai.OpenAI(
            base_url=url, api_key=self._key, timeout=timeout, max_retries=0
        )
        self._tries, self._pause, self._concurrency = tries, pause, concurrency
        self._stopped = threading.Event()
        self.rule: Rule | None = None  # None until it is found out

    def describe(self) -> dict[str, object]:
        """Server and model; the rule shows in the replies that are kept."""
        return {"judge": "endpoint", "url": self._url, "model": self._model}

    def check(self, questions: Sequence[Question]) -> None:
        """Raise `DataError` for a question without judge prompts, `ModelError` for no judge."""
        require_prompts(questions)
        self._stopped.clear()
        question = questions[0]
        prompt = fill(question.judge_prompts["aligned"], question.paraphrases[0], "No.")
        try:
            self._call(prompt, REPLY_TOKENS, logprobs=False)
        except _Failed as failure:
            if failure.refused:
                raise self._refusal(failure) from failure
            # Else it may be over by the time the judge is needed.

    def __call__(self, answers: Sequence[Asked]) -> list[Judgement]:
        """One judgement per answer, in order; unscored where the judge failed for good."""
        require_prompts([asked.question for asked in answers])
        prompts = [
            fill(asked.question.judge_prompts[aspect], asked.text, asked.answer)
            for asked in answers
            for aspect in ASPECTS
        ]
        self._stopped.clear()
        if self.rule is None:
            self._find_rule(prompts[:PROBES])
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            scores = list(pool.map(self._score, prompts))
        finally:
            # No call is begun or waits for its next try after an error or an interruption.
            self._stopped.set()
            pool.shutdown(cancel_futures=True)
        return [Judgement.of(*pair) for pair in zip(scores[::2], scores[1::2], strict=True)]

    def _find_rule(self, prompts: Sequence[str]) -> None:
        """Settle how replies are read; stays open where the server did not answer at all."""
        refusals: list[_Failed] = []
        answered = False
        for prompt in prompts:
            try:
                reply = self._probe(prompt)
            except _Failed as failure:
                refusals += [failure] if failure.refused else []
                continue
            answered = True
            if reply.first is None or _splits_numbers(reply):
                self.rule = "first integer"
                return
            if _has_long_number(reply):
                self.rule = "probabilities"
                return
        if answered:
            self.rule = "first integer"
        elif prompts and len(refusals) == len(prompts):
            raise self._refusal(refusals[0]) from refusals[0]

    def _probe(self, prompt: str) -> _Reply:
        """A reply of several tokens, with probabilities unless the server refuses to give any."""
        try:
            return self._call(prompt, REPLY_TOKENS, logprobs=True)
        except _Failed as failure:
            if not failure.refused:
                raise
        return self._call(prompt, REPLY_TOKENS, logprobs=False)._replace(first=None)

    def _score(self, prompt: str) -> Score:
        try:
            if self.rule == "probabilities":
                reply = self._call(prompt, 1, logprobs=True)
                return score_of_probabilities(reply.first or {})
            return score_of_text(self._call(prompt, REPLY_TOKENS, logprobs=False).text)
        except _Failed as failure:
            return Score(None, str(failure))
        except ModelError:
            self._stopped.set()
            raise

    def _refusal(self, failure: "_Failed") -> ModelError:
        hint = "is it a chat model, and of that name?"
        return ModelError(f"{self._shown}: refuses the prompts: {failure}; {hint}")

    @property
    def _shown(self) -> str:
        return f"the judge {escape(self._model)!r} at {escape(self._url)}"

    def _call(self, prompt: str, max_tokens: int, *, logprobs: bool) -> _Reply:
        """One reply, tried a few times. Raises `_Failed`, or `ModelError` where trying is vain."""
        reason = "not asked, for the judge had failed for good"
        for attempt in range(1, self._tries + 1):
            if self._stopped.is_set():
                break
            try:
                return self._once(prompt, max_tokens, logprobs=logprobs)
            except _Passing as problem:
                reason, wait = problem.reason, problem.wait
            if attempt < self._tries:
                backoff = self._pause * 2 ** (attempt - 1) * random.uniform(0.5, 1)
                self._stopped.wait(min(LONGEST_WAIT, max(backoff, wait)))
        raise _Failed(f"{reason}, {self._tries} times")

    def _once(self, prompt: str, max_tokens: int, *, logprobs: bool) -> _Reply:
        asked: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if logprobs else {}
        with self._told():
            raw = self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=max_tokens,
                **asked,
            )
            body = raw.http_response.content
        reply = _read(body)
        if reply is None:
            raise _Passing("the judge sent what is no completion")
        if not logprobs and not reply.text.strip():
            raise _Passing("the judge sent an empty reply")
        if logprobs and self.rule == "probabilities" and reply.first is None:
            raise _Passing("the judge sent no probabilities this time")
        return reply

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Sort what the client raises: it may pass, it is about the prompt, or it is final."""
        openai = self._openai
        try:
            yield
        except openai.APITimeoutError as error:
            raise _Passing("the judge did not answer in time") from error
        except openai.APIConnectionError as error:
            if type(error.__cause__).__name__ == "ConnectError":
                raise ModelError(
                    f"{self._shown}: cannot be reached; is the server running?"
                ) from error
            raise _Passing("the judge broke off") from error
        except openai.APIStatusError as error:
            status, said = error.status_code, self._said(error)
            if status in _MAY_PASS or status >= 500:
                raise _Passing(f"the judge answered {status}", _retry_after(error)) from error
            if status in _OF_THE_PROMPT:
                raise _Failed(f"the judge answered {status}: {said}", refused=True) from error
            raise ModelError(f"{self._shown}: answered {status}: {said}") from error
        except openai.OpenAIError as error:
            raise _Passing("the judge sent what is no completion") from error

    def _said(self, error: Any) -> str:
        text = " ".join(str(error.message).split())
        return escape(text.replace(self._key, "***") if self._key != "none" else text, limit=200)


class _Passing(Exception):
    """A failure that may pass, and the seconds that the server asks to wait."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


def _import_openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise MissingExtraError(
            "a judge behind a server needs the openai package, which is not installed; "
            "install it with: pip install 'geofilter[judge]'"
        ) from error
    return openai


def _retry_after(error: Any) -> float:
    try:
        seconds = float(error.response.headers.get("retry-after", "0"))
    except ValueError:  # a date
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0


def _splits_numbers(reply: _Reply) -> bool:
    """Whether the reply writes one number as several tokens."""
    return any(a[-1:].isdigit() and b[:1].isdigit() for a, b in pairwise(reply.tokens))


def _has_long_number(reply: _Reply) -> bool:
    """Whether a number of two digits or more is one token of the judge's."""
    return any((as_integer(token) or 0) > 9 for token in (*reply.tokens, *(reply.first or {})))


def _read(body: bytes) -> _Reply | None:
    """What a completion says; None for anything that is not one."""
    try:
        choice = json.loads(body)["choices"][0]
        text = choice["message"]["content"]
        positions = (choice.get("logprobs") or {}).get("content") or []
        tokens = tuple(str(position["token"]) for position in positions)
        first = _probabilities(positions[0]) if positions else None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    return _Reply(text, first, tokens) if isinstance(text, str) else _Reply("", first, tokens)


def _probabilities(position: dict[str, Any]) -> dict[str, float] | None:
    """Probability by token; None where no list of likely tokens is given.

    The chosen token alone is no distribution: its own score would always be what it says.
    """
    options = position.get("top_logprobs")
    if not options:
        return None
    found: dict[str, float] = {}
    for option in options:
        # Two tokens may share one spelling.
        token = str(option["token"])
        found[token] = found.get(token, 0.0) + _exponential(option["logprob"])
    # The chosen token need not be among the most likely.
    found.setdefault(str(position["token"]), _exponential(position["logprob"]))
    return found


def _exponential(logprob: object) -> float:
    """The probability; `ValueError` for what is no logarithm of one, a rounding error aside."""
    value = float(str(logprob))
    if not value <= 1e-3:
        raise ValueError("no log probability")
    return math.exp(min(0.0, value))
