"""The loopback hub, with what `huggingface_hub` asks of it to make repositories and commit.

A commit is a POST of JSON lines; large files go before it, by the LFS batch protocol, to
an address of their own. No xet headers are sent. Tokens with access may write to `OWN`
only, as on the real hub.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from helpers.loopback_answers import Refused
from helpers.loopback_hub import (
    _LARGE,
    TOKEN,
    Content,
    LoopbackHub,
    _description,
    _Handler,
)

OWN = "me"


class UploadHub(LoopbackHub):
    """A hub that can be written to; `private` holds the names of private repositories."""

    def __init__(self, repositories: Mapping[str, Mapping[str, Content]] | None = None) -> None:
        super().__init__(repositories)
        self.private: set[str] = set()
        self.large: dict[str, bytes] = {}  # by SHA-256
        self._server.RequestHandlerClass = _UploadHandler


class _UploadHandler(_Handler):
    hub: UploadHub

    def _writer(self, name: str) -> None:
        name = name.removeprefix("datasets/")
        if self._token() is None:
            raise Refused(401, None, "Invalid username or password.")
        if self._token() != TOKEN or not name.startswith(f"{OWN}/"):
            raise Refused(403, None, f"You don't have the rights to write to {name}")

    def do_PUT(self) -> None:
        """Take a large file, under the SHA-256 that the batch named."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        named = unquote(urlsplit(self.path).path).removeprefix("/lfs/")
        assert hashlib.sha256(body).hexdigest() == named
        self.hub.large[named] = body
        self._send(200, b"", {})

    def _api(self, path: str, body: bytes) -> None:
        if path == "repos/create":
            return self._create(json.loads(body))
        if path == "validate-yaml":
            return self._json({"errors": [], "warnings": []})
        match = re.fullmatch(
            r"(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(?:/(?P<what>preupload|commit)/main)?",
            path,
        )
        if match is None:
            return super()._api(path, body)
        name = ("datasets/" if match["kind"] == "datasets" else "") + match["name"]
        repository = self._repository(name)
        if match["what"] is None:
            private = name in self.hub.private
            return self._json(_description(match["name"], repository) | {"private": private})
        self._writer(name)
        if match["what"] == "commit":
            return self._commit(name, [json.loads(line) for line in body.splitlines()])
        paths = [file["path"] for file in json.loads(body)["files"]]
        files = [
            {
                "path": path,
                "uploadMode": "lfs" if path.endswith(_LARGE) else "regular",
                "shouldIgnore": False,
            }
            for path in paths
        ]
        return self._json({"files": files})

    def _create(self, asked: dict[str, object]) -> None:
        name = f"{asked.get('organization') or OWN}/{asked['name']}"
        if asked.get("type") == "dataset":
            name = f"datasets/{name}"
        self._writer(name)
        address = {"url": f"{self.hub.endpoint}/{name}", "id": name}
        if name in self.hub.repositories:
            # With the address, which the client reads where an existing one will do.
            error = {"error": "You already created this model repo"} | address
            return self._send(409, json.dumps(error).encode(), {})
        self.hub.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(name)
        return self._json(address)

    def _commit(self, name: str, lines: list[dict[str, dict[str, str]]]) -> None:
        repository = self.hub.repositories[name]
        header, *operations = lines
        if header["value"].get("parentCommit") not in (None, repository.commit):
            raise Refused(412, None, "A commit has happened since. Please refresh")
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "deletedFile":
                repository.drop(value["path"])
            elif operation["key"] == "lfsFile":
                repository.put(value["path"], self.hub.large[value["oid"]])
            else:
                repository.put(value["path"], base64.b64decode(value["content"]))
        commit = repository.commit
        address = f"{self.hub.endpoint}/{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": address})

    def do_POST(self) -> None:
        match = re.fullmatch(
            r"/(?P<name>(?:datasets/)?[^/]+/[^/]+)\.git/info/lfs/objects/batch", self.path
        )
        if match is None:
            return self._answer()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self._writer(match["name"])
        except Refused as refused:
            return self._send(refused.status, str(refused).encode(), refused.headers)
        objects = [
            one | {"actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        return self._json({"transfer": "basic", "objects": objects})
