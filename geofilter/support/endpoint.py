"""A model on an OpenAI-compatible server: one call for each reply, tried again where that may help.

What is over soon (a time-out, 429, 5xx, a reply that is no completion) is tried again a few times.
Where another try is no use (no server, a wrong key, an unknown model), all stops at once. What
the server sends is data that may be anything: no more of it is read than `BODY_LIMIT`.
"""

import contextlib
import json
import math
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import tenacity

from geofilter.errors import MissingExtraError, ModelError
from geofilter.support.display import escape

_Found = TypeVar("_Found")

LONGEST_WAIT = 60.0  # seconds
BODY_LIMIT = 8 * 2**20  # bytes

_MAY_PASS = {408, 409, 425, 429}
_NOT_THERE = 501
# The server's word on this one prompt: too long, mostly.
_OF_THE_PROMPT = {400, 413, 422}


class Failed(Exception):
    """No reply, with the reason. `refused`: the server does not take the request as it is."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Passing(Exception):
    """A failure that may pass, and the seconds that the server asks to wait."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


class Endpoint:
    """The model `model` of the server at `url` (`http://HOST/v1`), which messages call `who`.

    The key is the value of the environment variable `key_variable`; a server that wants none gets
    none. `tries` calls at most per reply, `timeout` seconds each, with pauses that begin at
    `pause` seconds and double. Raises `MissingExtraError` without the `openai` package and
    `ModelError` for an address that holds a name or key.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        who: str,
        key_variable: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        tries: int = 5,
        pause: float = 1.0,
    ) -> None:
        self._openai = _import_openai()
        if urlsplit(url).username is not None:
            raise ModelError(
                f"the address of a server holds no name or key; put the key into ${key_variable}"
            )
        self.url, self.model, self.who = url, model, who
        self._key = os.environ.get(key_variable) or "none"
        self._client = self._openai.OpenAI(
            base_url=url, api_key=self._key, timeout=timeout, max_retries=0
        )
        self._tries, self._pause = tries, pause
        self._stopped = threading.Event()

    @property
    def shown(self) -> str:
        """Who is asked, and where, for a message."""
        return f"{self.who} {escape(self.model)!r} at {escape(self.url)}"

    def begin(self) -> None:
        """Ask again, after `stop`."""
        self._stopped.clear()

    def stop(self) -> None:
        """Begin no further call, and wait for no next try."""
        self._stopped.set()

    def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        read: Callable[[bytes], _Found],
        **settings: Any,
    ) -> _Found:
        """What `read` makes of the body of a completion; it may raise `Passing`.

        Raises `Failed` without a reply, and `ModelError` where another try is no use.
        """

        def once() -> _Found:
            return read(
                self._body(
                    self._client.chat.completions.with_streaming_response.create(
                        model=self.model, messages=messages, **settings
                    )
                )
            )

        return self._tried(once)

    def complete(
        self, prompt: Sequence[int], read: Callable[[bytes], _Found], **settings: Any
    ) -> _Found:
        """As `ask`, of a prompt in tokens, to which the server adds no template of its own."""

        def once() -> _Found:
            return read(
                self._body(
                    self._client.completions.with_streaming_response.create(
                        model=self.model, prompt=list(prompt), **settings
                    )
                )
            )

        return self._tried(once)

    def served(self) -> str | None:
        """Which model the server says that the name is of; None where it says nothing."""

        def listed() -> str | None:
            body = self._body(self._client.models.with_streaming_response.list())
            return _served(body, self.model)

        try:
            return self._tried(listed)
        except (Failed, ModelError):  # it need have no list
            return None

    def _tried(self, once: Callable[[], _Found]) -> _Found:
        def one_try() -> _Found:
            if self._stopped.is_set():
                raise Failed(f"not asked, for {self.who} had failed for good")
            return once()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Passing),
            stop=tenacity.stop_after_attempt(self._tries),
            wait=self._wait,
            sleep=tenacity.sleep_using_event(self._stopped),
            reraise=True,
        )
        try:
            return retrying(one_try)
        except Passing as problem:
            raise Failed(f"{problem.reason}, {self._tries} times") from problem

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next try: twice as many each time, or what the server asks for."""
        problem = state.outcome and state.outcome.exception()
        asked = problem.wait if isinstance(problem, Passing) else 0.0
        backoff: float = self._pause * 2 ** (state.attempt_number - 1) * random.uniform(0.5, 1)
        return min(LONGEST_WAIT, max(backoff, asked))

    def _body(self, call: Any) -> bytes:
        """The body of the response to a call, which is made here."""
        with self._sorted(), call as response:
            return self._whole(response.iter_bytes())

    def _whole(self, pieces: Iterable[bytes]) -> bytes:
        found = bytearray()
        for piece in pieces:
            found += piece
            if len(found) > BODY_LIMIT:
                raise Failed(f"{self.who} sent more than {BODY_LIMIT // 2**20} MiB")
        return bytes(found)

    @contextlib.contextmanager
    def _sorted(self) -> Iterator[None]:
        """Tell apart what the client raises: it may pass, is about the prompt, or is final."""
        openai, who = self._openai, self.who
        try:
            yield
        except openai.APITimeoutError as error:
            raise Passing(f"{who} did not answer in time") from error
        except openai.APIConnectionError as error:
            if "ConnectError" in _kinds(error.__cause__):
                raise ModelError(f"{self.shown}: cannot be reached; is the server running?") from (
                    error
                )
            raise Passing(f"{who} broke off") from error
        except openai.APIStatusError as error:
            status, said = error.status_code, self._said(error)
            if status in _MAY_PASS or (status >= 500 and status != _NOT_THERE):
                raise Passing(f"{who} answered {status}", _retry_after(error)) from error
            if status in _OF_THE_PROMPT:
                raise Failed(f"{who} answered {status}: {said}", refused=True) from error
            raise ModelError(f"{self.shown}: answered {status}: {said}") from error
        except openai.OpenAIError as error:
            raise Passing(f"{who} sent what is no completion") from error
        except Exception as error:  # while the body is read, what carries it raises its own
            if "TimeoutException" in _kinds(error):
                raise Passing(f"{who} did not answer in time") from error
            if "HTTPError" in _kinds(error):
                raise Passing(f"{who} broke off") from error
            raise

    def _said(self, error: Any) -> str:
        text = " ".join(str(error.message).split())
        return escape(text.replace(self._key, "***") if self._key != "none" else text, limit=200)


def split_address(spec: str) -> tuple[str, str] | None:
    """The server and the model of `http://HOST/v1#MODEL`, or https; None for what is no address.

    Raises `ModelError` without a model.
    """
    if not spec.startswith(("http://", "https://")):
        return None
    url, _, model = spec.partition("#")
    if not model:
        raise ModelError(f"{escape(spec)!r} names no model of the server")
    return url, model


def first_choice(body: bytes) -> dict[str, Any] | None:
    """The first choice of a chat completion, which holds a message; None for anything else."""
    try:
        choice = json.loads(body)["choices"][0]
        is_choice = isinstance(choice, dict) and isinstance(choice["message"], dict)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    return choice if is_choice else None


def _served(body: bytes, model: str) -> str | None:
    """Which model a server's list says that the name `model` is of; None where it does not.

    Its `root`, where the server gives one with the id, as those do that serve a model under
    another name.
    """
    try:
        (entry,) = [one for one in json.loads(body)["data"] if one["id"] == model]
        return str(entry.get("root") or entry["id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _import_openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise MissingExtraError(
            "a model on a server needs the openai package, which is not installed; "
            "install it with: pip install 'geofilter[judge]'"
        ) from error
    return openai


def _kinds(error: object) -> set[str]:
    """The names of what an error is: the client has had more than one carrier below it."""
    return {kind.__name__ for kind in type(error).__mro__}


def _retry_after(error: Any) -> float:
    try:
        seconds = float(error.response.headers.get("retry-after", "0"))
    except ValueError:  # a date
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0
