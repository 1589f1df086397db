"""A model server without a model, as a program: `python stub_server.py CHECKPOINT PORT [MOST]`.

It answers a completion with words made of its prompt and its seed, notes what it was asked in
`asked.jsonl` next to the checkpoint, and ends after MOST completions.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    checkpoint = Path(sys.argv[1])
    left = int(sys.argv[3]) if len(sys.argv) > 3 else 10**6

    def do_GET(self) -> None:
        self._send({"data": [{"id": str(self.checkpoint)}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.path == "/v1/completions"
        if Handler.left <= 0:
            os._exit(3)
        Handler.left -= 1
        with (self.checkpoint.parent / "asked.jsonl").open("a") as file:
            file.write(json.dumps(body) + "\n")
        text = f" w{body['seed'] % 60} w{sum(body['prompt']) % 60}\n"
        self._send({"choices": [{"text": text, "index": 0}]})

    def _send(self, content: object) -> None:
        raw = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    missing = {"model.safetensors", "config.json", "tokenizer.json"} - set(os.listdir(sys.argv[1]))
    if missing:
        print(f"no {', '.join(sorted(missing))} to serve")
        sys.exit(2)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
