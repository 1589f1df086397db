"""A server on loopback that answers as an OpenAI-compatible one does, or as a broken one."""

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]
# What the server does: a body as JSON, bytes as they are, a status, "hang" or "drop".
Act = object
# Seconds that a judge which hangs is waited for; others get so long that no busy machine matters.
BRIEF, LONG = 0.25, 20.0


class Server:
    """Answers each request with what `act` makes of it and counts requests by their prompt.

    `models` is its list of models; a status where it has none.
    """

    def __init__(self, act: Callable[[Request], Act], models: Act = 501) -> None:
        self.act, self.models = act, models
        self.requests: list[Request] = []
        self.at_once = self.most_at_once = 0
        self.keys: set[str | None] = set()
        self.lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[str]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.answer(self)

            def do_GET(self) -> None:
                assert self.path == "/v1/models"
                outer.send(self, outer.models)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self.lock:
            self.requests.append(body)
            self.keys.add(handler.headers.get("authorization"))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        act = self.act(body)
        with self.lock:
            self.at_once -= 1
        if act == "hang":
            time.sleep(2 * BRIEF)
        if act in ("hang", "drop"):
            handler.close_connection = True
            return
        self.send(handler, act)

    def send(self, handler: BaseHTTPRequestHandler, act: Act) -> None:
        status, content = (
            (act, {"error": {"message": "no, sk-secret"}}) if isinstance(act, int) else (200, act)
        )
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        if status == 503:
            handler.send_header("retry-after", "30")
        handler.send_header("content-length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    @property
    def counts(self) -> Counter[str]:
        return Counter(request["messages"][0]["content"] for request in self.requests)


def completion(text: str | None, *positions: dict[str, float]) -> Act:
    """A completion; each position is a distribution, of which the first token was chosen."""
    listed = [
        {
            "token": next(iter(position)),
            "logprob": math.log(next(iter(position.values()))),
            "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in position.items()],
        }
        for position in positions
    ]
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    if positions:
        choice["logprobs"] = {"content": listed}
    return {"choices": [choice]}
