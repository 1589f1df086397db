"""A judge on an OpenAI-compatible server: chat completions with log probabilities.

One call per prompt, temperature 0. Which rule reads the replies is found out once, from a few
answers that are always the same, and then holds for all: probabilities of the first token
(`max_tokens=1`, `top_logprobs=20`) where the server gives them and the judge writes a number
as one token, the first integer of a short reply otherwise. A judge that writes 85 as "8", "5"
would score 8 by its first token.
What fails on the way is sorted out by `support.endpoint`; where it may pass, the answer is left
unscored after a few tries.
"""

import contextlib
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from geofilter.errors import ModelError
from geofilter.support.endpoint import Endpoint, Failed, Passing, split_address
from geofilter.verify.judges import completion
from geofilter.verify.judges.base import Asked, Judgement, by_prompts
from geofilter.verify.judges.completion import Reply
from geofilter.verify.judges.reply import Rule, Score, score_of_probabilities, score_of_text
from geofilter.verify.questions import Question, fill, require_prompts

TOP_LOGPROBS = 20
# Enough for a number and a word or two around it.
REPLY_TOKENS = 8
# What a judge is asked about to find out how it replies: each for all aspects. One that then
# never writes a number of two digits is read by its text.
PROBES = (
    "I would sleep on it, and then ask somebody who knows more about this than I do.",
    "That depends on what you want. Both can be right.",
    "Do whatever you like, nobody cares.",
    "No.",
)


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
        self._endpoint = Endpoint(
            url,
            model,
            who="the judge",
            key_variable=key_variable,
            timeout=timeout,
            tries=tries,
            pause=pause,
        )
        self._concurrency = concurrency
        self.rule = rule  # None until it is found out
        self._served: str | None = None

    def describe(self) -> dict[str, object]:
        """Server, model, what the server says that is, and the rule; whole after `check`."""
        return {
            "judge": "endpoint",
            "url": self._endpoint.url,
            "model": self._endpoint.model,
            "served": self._served,
            "rule": self.rule,
        }

    def check(self, questions: Sequence[Question]) -> None:
        """Find out how replies are read. Raises `DataError` for a question without judge prompts.

        Raises `ModelError` for no judge, and for one that gives no reply at all.
        """
        require_prompts(questions)
        self._endpoint.begin()
        if self.rule is not None:
            return
        try:
            self.rule = self._find_rule(questions)
        except Failed as failure:
            raise ModelError(
                f"{self._endpoint.shown}: {failure}; run again when it replies"
            ) from failure
        self._served = self._endpoint.served()

    def __call__(self, answers: Sequence[Asked]) -> list[Judgement]:
        """One judgement per answer, in order; unscored where the judge failed for good."""
        require_prompts([asked.question for asked in answers])
        self._endpoint.begin()
        if self.rule is None and answers:
            # Without a reply to tell it by, there will hardly be one to read.
            with contextlib.suppress(Failed):
                self.rule = self._find_rule([asked.question for asked in answers])
        return by_prompts(answers, self._scores)

    def _scores(self, prompts: list[str]) -> list[Score]:
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            return list(pool.map(self._score, prompts))
        finally:
            # No call is begun or waits for its next try after an error or an interruption.
            self._endpoint.stop()
            pool.shutdown(cancel_futures=True)

    def _find_rule(self, questions: Sequence[Question]) -> Rule:
        """How replies are to be read. Raises `Failed` without a reply to tell it by."""
        prompts = [
            fill(question.judge_prompts[aspect], question.paraphrases[0], answer)
            for answer, question in zip(PROBES, itertools.cycle(questions))
            for aspect in question.aspects
        ]
        refusals: list[Failed] = []
        for prompt in prompts:
            try:
                reply = self._probe(prompt)
            except Failed as failure:
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

    def _probe(self, prompt: str) -> Reply:
        """A reply of several tokens, with probabilities unless the server refuses to give any."""
        try:
            return self._call(prompt, REPLY_TOKENS, logprobs=True)
        except Failed as failure:
            if not failure.refused:
                raise
        return self._call(prompt, REPLY_TOKENS, logprobs=False)._replace(first=None)

    def _score(self, prompt: str) -> Score:
        try:
            if self.rule == "probabilities":
                reply = self._call(prompt, 1, logprobs=True)
                return score_of_probabilities(reply.first or {})
            return score_of_text(self._call(prompt, REPLY_TOKENS, logprobs=False).text)
        except Failed as failure:
            return Score(None, str(failure))
        except ModelError:
            self._endpoint.stop()
            raise

    def _refusal(self, failure: Failed) -> ModelError:
        hint = "is it a chat model, and of that name?"
        return ModelError(f"{self._endpoint.shown}: refuses the prompts: {failure}; {hint}")

    def _call(self, prompt: str, max_tokens: int, *, logprobs: bool) -> Reply:
        asked: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if logprobs else {}

        def read(body: bytes) -> Reply:
            reply = completion.read(body)
            if reply is None:
                raise Passing("the judge sent what is no completion")
            if not logprobs and not reply.text.strip():
                raise Passing("the judge sent an empty reply")
            if logprobs and self.rule == "probabilities" and reply.first is None:
                raise Passing("the judge sent no probabilities this time")
            return reply

        messages = [{"role": "user", "content": prompt}]
        return self._endpoint.ask(messages, read, temperature=0, max_tokens=max_tokens, **asked)


def named(spec: str, rule: Rule | None) -> EndpointJudge | None:
    """The judge of `http://HOST/v1#MODEL`, or https. Raises `ModelError` without a model."""
    address = split_address(spec)
    return None if address is None else EndpointJudge(*address, rule=rule)
