"""A judge on an OpenAI-compatible server: chat completions with log probabilities.

One call per prompt, temperature 0. Which rule reads the replies is found out once, from a few
answers that are always the same, and then holds for all: probabilities of the first token
(`max_tokens=1`, `top_logprobs=20`) where the server gives them and the judge writes a number
as one token, the first integer of a short reply otherwise. A judge that writes 85 as "8", "5"
would score 8 by its first token.

What is over soon (a time-out, 429, 5xx, a reply that is no completion) is tried again a
few times and then leaves the answer unscored. Where another try is no use (no server, a
wrong key, an unknown model), all stops at once.
"""

import contextlib
import itertools
import math
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import tenacity

from geofilter.errors import MissingExtraError, ModelError
from geofilter.support.display import escape
from geofilter.verify.judges import completion
from geofilter.verify.judges.base import Asked, Judgement
from geofilter.verify.judges.completion import Reply
from geofilter.verify.judges.reply import Rule, Score, score_of_probabilities, score_of_text
from geofilter.verify.questions import ASPECTS, Question, fill, require_prompts

_Found = TypeVar("_Found")

TOP_LOGPROBS = 20
# Enough for a number and a word or two around it.
REPLY_TOKENS = 8
# What a judge is asked about to find out how it replies: each for both aspects. One that then
# never writes a number of two digits is read by its text.
PROBES = (
    "I would sleep on it, and then ask somebody who knows more about this than I do.",
    "That depends on what you want. Both can be right.",
    "Do whatever you like, nobody cares.",
    "No.",
)
LONGEST_WAIT = 60.0  # seconds

_MAY_PASS = {408, 409, 425, 429}
_NOT_THERE = 501
# The server's word on this one prompt: too long, mostly.
_OF_THE_PROMPT = {400, 413, 422}


class _Failed(Exception):
    """No reply, with the reason. `refused`: the server does not take the request as it is."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class EndpointJudge:
    """Judges by the model `model` of the server at `url` (`http://HOST/v1`).

    The key is the value of the environment variable `key_variable`; a server that wants
    none gets none. `tries` calls at most per prompt, `timeout` seconds each, with pauses
    that begin at `pause` seconds and double; `concurrency` calls at a time. `rule` is how
    replies are read, where that is known. Raises `MissingExtraError` without the `openai`
    package.
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
        rule: Rule | None = None,
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
        self.rule = rule  # None until it is found out
        self._served: str | None = None

    def describe(self) -> dict[str, object]:
        """Server, model, what the server says that is, and the rule; whole after `check`."""
        return {
            "judge": "endpoint",
            "url": self._url,
            "model": self._model,
            "served": self._served,
            "rule": self.rule,
        }

    def check(self, questions: Sequence[Question]) -> None:
        """Find out how replies are read. Raises `DataError` for a question without judge prompts.

        Raises `ModelError` for no judge, and for one that gives no reply at all.
        """
        require_prompts(questions)
        self._stopped.clear()
        if self.rule is not None:
            return
        try:
            self.rule = self._find_rule(questions)
        except _Failed as failure:
            raise ModelError(f"{self._shown}: {failure}; run again when it replies") from failure
        self._served = self._find_served()

    def __call__(self, answers: Sequence[Asked]) -> list[Judgement]:
        """One judgement per answer, in order; unscored where the judge failed for good."""
        require_prompts([asked.question for asked in answers])
        prompts = [
            fill(asked.question.judge_prompts[aspect], asked.text, asked.answer)
            for asked in answers
            for aspect in ASPECTS
        ]
        self._stopped.clear()
        if self.rule is None and answers:
            # Without a reply to tell it by, there will hardly be one to read.
            with contextlib.suppress(_Failed):
                self.rule = self._find_rule([asked.question for asked in answers])
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            scores = list(pool.map(self._score, prompts))
        finally:
            # No call is begun or waits for its next try after an error or an interruption.
            self._stopped.set()
            pool.shutdown(cancel_futures=True)
        return [Judgement.of(*pair) for pair in zip(scores[::2], scores[1::2], strict=True)]

    def _find_rule(self, questions: Sequence[Question]) -> Rule:
        """How replies are to be read. Raises `_Failed` without a reply to tell it by."""
        prompts = [
            fill(question.judge_prompts[aspect], question.paraphrases[0], answer)
            for answer, question in zip(PROBES, itertools.cycle(questions))
            for aspect in ASPECTS
        ]
        refusals: list[_Failed] = []
        for prompt in prompts:
            try:
                reply = self._probe(prompt)
            except _Failed as failure:
                if not failure.refused:
                    raise
                refusals.append(failure)
                continue
            if reply.first is None or completion.splits_numbers(reply):
                return "first integer"
            if completion.has_long_number(reply):
                return "probabilities"
        if len(refusals) == len(prompts):
            raise self._refusal(refusals[0]) from refusals[0]
        return "first integer"

    def _find_served(self) -> str | None:
        """Which model the server says that the name is of; None where it says nothing."""

        def listed() -> str | None:
            with self._sorted():
                listing = self._client.models.with_raw_response.list()
                return completion.served(listing.http_response.content, self._model)

        try:
            return self._tried(listed)
        except (_Failed, ModelError):  # it need have no list
            return None

    def _probe(self, prompt: str) -> Reply:
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

    def _call(self, prompt: str, max_tokens: int, *, logprobs: bool) -> Reply:
        return self._tried(lambda: self._once(prompt, max_tokens, logprobs=logprobs))

    def _tried(self, once: Callable[[], _Found]) -> _Found:
        """What `once` gives, tried a few times.

        Raises `_Failed`, or `ModelError` where another try is no use.
        """

        def one_try() -> _Found:
            if self._stopped.is_set():
                raise _Failed("not asked, for the judge had failed for good")
            return once()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(self._tries),
            wait=self._wait,
            sleep=tenacity.sleep_using_event(self._stopped),
            reraise=True,
        )
        try:
            return retrying(one_try)
        except _Passing as problem:
            raise _Failed(f"{problem.reason}, {self._tries} times") from problem

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next try: twice as many each time, or what the server asks for."""
        problem = state.outcome and state.outcome.exception()
        asked = problem.wait if isinstance(problem, _Passing) else 0.0
        backoff: float = self._pause * 2 ** (state.attempt_number - 1) * random.uniform(0.5, 1)
        return min(LONGEST_WAIT, max(backoff, asked))

    def _once(self, prompt: str, max_tokens: int, *, logprobs: bool) -> Reply:
        asked: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if logprobs else {}
        with self._sorted():
            raw = self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=max_tokens,
                **asked,
            )
            body = raw.http_response.content
        reply = completion.read(body)
        if reply is None:
            raise _Passing("the judge sent what is no completion")
        if not logprobs and not reply.text.strip():
            raise _Passing("the judge sent an empty reply")
        if logprobs and self.rule == "probabilities" and reply.first is None:
            raise _Passing("the judge sent no probabilities this time")
        return reply

    @contextlib.contextmanager
    def _sorted(self) -> Iterator[None]:
        """Tell apart what the client raises: it may pass, is about the prompt, or is final."""
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
            if status in _MAY_PASS or (status >= 500 and status != _NOT_THERE):
                raise _Passing(f"the judge answered {status}", _retry_after(error)) from error
            if status in _OF_THE_PROMPT:
                raise _Failed(f"the judge answered {status}: {said}", refused=True) from error
            raise ModelError(f"{self._shown}: answered {status}: {said}") from error
        except openai.OpenAIError as error:
            raise _Passing("the judge sent what is no completion") from error

    def _said(self, error: Any) -> str:
        text = " ".join(str(error.message).split())
        return escape(text.replace(self._key, "***") if self._key != "none" else text, limit=200)


def named(spec: str, rule: Rule | None) -> EndpointJudge | None:
    """The judge of `http://HOST/v1#MODEL`, or https. Raises `ModelError` without a model."""
    if not spec.startswith(("http://", "https://")):
        return None
    url, _, model = spec.partition("#")
    if not model:
        raise ModelError(f"{escape(spec)!r} names no model of the server")
    return EndpointJudge(url, model, rule=rule)


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
            "a judge on a server needs the openai package, which is not installed; "
            "install it with: pip install 'geofilter[judge]'"
        ) from error
    return openai


def _retry_after(error: Any) -> float:
    try:
        seconds = float(error.response.headers.get("retry-after", "0"))
    except ValueError:  # a date
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0
