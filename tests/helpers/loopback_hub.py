"""A small hub on the loopback interface, which speaks what `huggingface_hub` asks.

Repositories are plain dictionaries: `{"org/name": {"config.json": b"...", "x.bin": Path}}`,
data sets under `datasets/org/name`. Each has one commit, `main`, which changes with its
content. Large files are answered with a redirect, as the real hub answers them, and no
xet headers are sent. Every request is logged, so that a test can ask what was fetched.

Gated repositories want one of the tokens below. Failures are asked for with `fail`.
"""

import hashlib
import io
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, quote, unquote, urlsplit

from helpers.loopback_answers import Refused, byte_range

Content = bytes | Path
Fault = int | str  # an HTTP status, or "hang", "drop" (no answer), "cut" (half of the body)

# Anything else in an Authorization header is refused as no token at all.
TOKEN = "hf_accepted"
TOKEN_WITHOUT_ACCESS = "hf_no_access"

_LARGE = (".safetensors", ".npz", ".pt", ".bin")
_CHUNK = 1 << 20
_DATE = "2024-07-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `file` is None for the API; `sent` counts bytes of the body."""

    method: str
    path: str
    repo: str | None = None
    file: str | None = None
    status: int = 0
    sent: int = 0


@dataclass
class _Repository:
    files: dict[str, Content]
    gated: bool
    etags: dict[str, str] = field(default_factory=dict)

    def put(self, path: str, content: Content) -> None:
        self.files[path] = content
        with _opened(content) as handle:
            self.etags[path] = hashlib.file_digest(handle, "sha256").hexdigest()

    def drop(self, path: str) -> None:
        del self.files[path], self.etags[path]

    @property
    def commit(self) -> str:
        return hashlib.sha1(json.dumps(sorted(self.etags.items())).encode()).hexdigest()

    def size(self, path: str) -> int:
        content = self.files[path]
        return len(content) if isinstance(content, bytes) else content.stat().st_size


class LoopbackHub:
    """The server. Use it as a context manager; `endpoint` is what HF_ENDPOINT takes.

    `repositories`: see the module; `gated`: the ids that want a token.
    """

    def __init__(
        self,
        repositories: Mapping[str, Mapping[str, Content]] | None = None,
        *,
        gated: tuple[str, ...] = (),
    ) -> None:
        self.repositories: dict[str, _Repository] = {}
        for name, files in (repositories or {}).items():
            self.add(name, files, gated=name in gated)
        self.log: list[Request] = []
        self._faults: list[tuple[re.Pattern[str], Fault]] = []
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.hub = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self) -> "LoopbackHub":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, name: str, files: Mapping[str, Content], *, gated: bool = False) -> None:
        """Make the repository `name`, or replace it."""
        repository = _Repository({}, gated)
        for path, content in files.items():
            repository.put(path, content)
        self.repositories[name] = repository

    @contextmanager
    def fail(self, paths: str, fault: Fault) -> Iterator[None]:
        """Answer requests whose path holds a match of `paths` with `fault`."""
        entry = (re.compile(paths), fault)
        self._faults.append(entry)
        try:
            yield
        finally:
            self._faults.remove(entry)

    def fault(self, path: str) -> Fault | None:
        return next((fault for paths, fault in self._faults if paths.search(path)), None)

    def wait_until_closed(self) -> None:
        self._closing.wait(60)

    def fetched(self, repo: str | None = None) -> list[str]:
        """The files whose content was sent, of `repo` or of all, in the order of the log."""
        return [
            request.file
            for request in self.log
            if request.file is not None
            and request.method == "GET"
            and request.status in (200, 206)
            and repo in (None, request.repo)
        ]

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """What a process needs to use this hub, with its caches below `home`."""
        return environment(self.endpoint, home, token)


def environment(endpoint: str, home: Path, token: str | None = None) -> dict[str, str]:
    """Variables for a process that takes `endpoint` for the hub and caches below `home`."""
    variables = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home / "huggingface"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return variables if token is None else variables | {"HF_TOKEN": token}


def refusing_endpoint() -> str:
    """An address at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def _opened(content: Content) -> Iterator[IO[bytes]]:
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as handle:
        yield handle


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive, as the client expects

    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        fault = self.hub.fault(path)
        if fault == "hang":
            self.hub.wait_until_closed()
        if fault in ("hang", "drop"):
            self._note(None, None, 0, 0)
            self.close_connection = True
            return
        try:
            if isinstance(fault, int):
                raise Refused(fault, None, "failed on demand")
            if path.startswith("/api/"):
                self._api(path.removeprefix("/api/"), body)
            else:
                self._resolve(path.removeprefix("/"), fault == "cut")
        except Refused as refused:
            self._send(refused.status, str(refused).encode(), refused.headers)

    do_GET = do_HEAD = do_POST = _answer

    # Who may have what

    def _repository(self, name: str) -> _Repository:
        token = self._token()
        repository = self.hub.repositories.get(name)
        if repository is None:
            # Strangers are not told what is private and what is not there.
            raise Refused(401 if token is None else 404, "RepoNotFound", "Repository not found")
        return repository

    def _token(self) -> str | None:
        stated = self.headers.get("Authorization")
        if stated is None:
            return None
        token = stated.removeprefix("Bearer ")
        if token not in (TOKEN, TOKEN_WITHOUT_ACCESS):
            raise Refused(401, None, "Invalid credentials in Authorization header")
        return token

    def _check_gate(self, name: str, repository: _Repository) -> None:
        token = self._token()
        if not repository.gated or token == TOKEN:
            return
        raise Refused(
            401 if token is None else 403,
            "GatedRepo",
            f"Access to model {name} is restricted and you are not in the authorized list.",
        )

    @staticmethod
    def _check_revision(repository: _Repository, revision: str) -> None:
        if revision not in ("main", "refs/heads/main", repository.commit):
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    # The API: descriptions of repositories, public for gated ones too

    def _api(self, path: str, body: bytes) -> None:
        match = re.fullmatch(
            r"(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
            r"(?:/(?P<what>revision|tree|paths-info)(?:/(?P<rest>.+))?)?",
            path,
        )
        if match is None:
            raise Refused(404, None, "There is no such page")
        name = ("datasets/" if match["kind"] == "datasets" else "") + match["name"]
        repository = self._repository(name)
        what, rest = match["what"], match["rest"] or "main"
        revision, _, inside = rest.partition("/") if what == "tree" else (rest, "", "")
        self._check_revision(repository, revision)
        if what == "tree":
            query = parse_qs(urlsplit(self.path).query)
            recursive = query.get("recursive", ["false"])[0].lower() == "true"
            return self._json(_tree(repository, inside, recursive))
        if what == "paths-info":
            wanted = parse_qs(body.decode()).get("paths", [])
            everything = {entry["path"]: entry for entry in _tree(repository, "", True)}
            return self._json([everything[path] for path in wanted if path in everything])
        return self._json(_description(match["name"], repository))

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    # Files

    def _resolve(self, path: str, cut: bool) -> None:
        match = re.fullmatch(
            r"(?P<name>(?:datasets/)?[^/]+/[^/]+)/(?P<how>resolve|large)/"
            r"(?P<revision>refs/heads/main|[^/]+)/(?P<file>.+)",
            path,
        )
        if match is None:
            raise Refused(404, None, "There is no such page")
        name, file = match["name"], match["file"]
        repository = self._repository(name)
        self._check_revision(repository, match["revision"])
        commit = {"X-Repo-Commit": repository.commit}
        if file not in repository.files:
            refused = Refused(404, "EntryNotFound", "Entry not found")
            refused.headers |= commit
            raise refused
        self._check_gate(name, repository)
        etag, size = f'"{repository.etags[file]}"', repository.size(file)
        if match["how"] == "resolve" and file.endswith(_LARGE):
            place = f"{self.hub.endpoint}/{name}/large/{repository.commit}/{quote(file)}"
            linked = {"X-Linked-ETag": etag, "X-Linked-Size": str(size), "Location": place}
            return self._send(302, b"", commit | linked, name, file)
        headers = commit | {"ETag": etag, "Accept-Ranges": "bytes"}
        self._send_file(repository.files[file], size, headers, name, file, cut)

    def _send_file(
        self, content: Content, size: int, headers: dict[str, str], name: str, file: str, cut: bool
    ) -> None:
        first, last = byte_range(self.headers.get("Range"), size)
        status, sent = (200 if (first, last) == (0, size) else 206), 0
        if status == 206:
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{size}"
        self._start(status, last - first, headers)
        if self.command == "GET":
            end = first + (last - first) // 2 if cut else last
            with _opened(content) as handle:
                handle.seek(first)
                while first + sent < end:
                    chunk = handle.read(min(_CHUNK, end - first - sent))
                    self.wfile.write(chunk)
                    sent += len(chunk)
            self.close_connection |= cut
        self._note(name, file, status, sent)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str],
        name: str | None = None,
        file: str | None = None,
    ) -> None:
        self._start(status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)
        self._note(name, file, status, len(body))

    def _start(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _note(self, name: str | None, file: str | None, status: int, sent: int) -> None:
        self.hub.log.append(Request(self.command, self.path, name, file, status, sent))


def _description(name: str, repository: _Repository) -> dict[str, object]:
    return {
        "_id": repository.commit[:24],
        "id": name,
        "sha": repository.commit,
        "private": False,
        "gated": "manual" if repository.gated else False,
        "createdAt": _DATE,
        "lastModified": _DATE,
        "siblings": [{"rfilename": path} for path in sorted(repository.files)],
    }


def _tree(repository: _Repository, inside: str, recursive: bool) -> list[dict[str, object]]:
    prefix = f"{inside.rstrip('/')}/" if inside else ""
    below = [path for path in sorted(repository.files) if path.startswith(prefix)]
    if inside and not below:
        raise Refused(404, "EntryNotFound", f"{inside} does not exist")
    parents = (Path(path).parents for path in below)
    folders = {parent.as_posix() for each in parents for parent in each} - {".", inside}
    entries: list[dict[str, object]] = [
        {"type": "directory", "oid": repository.commit, "size": 0, "path": path}
        for path in sorted(folders)
        if path.startswith(prefix)
    ]
    entries += [
        {
            "type": "file",
            "oid": repository.etags[path][:40],
            "size": repository.size(path),
            "path": path,
        }
        for path in below
    ]
    return [
        entry
        for entry in entries
        if recursive or "/" not in str(entry["path"]).removeprefix(prefix)
    ]
