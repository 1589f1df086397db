"""The hub's refusals become one line that says what to type, however deep they are wrapped."""

import errno
from types import SimpleNamespace

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from geofilter.errors import DataError, ModelError
from geofilter.support import hub

REPO = "google/gemma-2-2b"


@pytest.fixture(autouse=True)
def _online_at_a_known_endpoint(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.test")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    token(monkeypatch, None)


def token(monkeypatch, value):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: value)


def answer(kind, status, path="/google/gemma-2-2b/resolve/main/model.safetensors"):
    url = f"http://hub.test{path}"
    response = httpx2.Response(status, request=httpx2.Request("HEAD", url))
    return kind(f"{status} from the hub", response=response)


def explained(error):
    reason = hub.explain(error, REPO)
    assert reason is not None
    assert "\n" not in reason
    assert reason.startswith(f"{REPO}: ")
    return reason


def test_a_gated_repository_asks_for_terms_and_a_token(monkeypatch):
    error = answer(errors.GatedRepoError, 401)
    reason = explained(error)
    assert "accept its terms at http://hub.test/google/gemma-2-2b" in reason
    assert "`hf auth login` or set HF_TOKEN" in reason
    token(monkeypatch, "hf_of_someone")
    reason = explained(answer(errors.GatedRepoError, 403))
    assert "account of your token has no access" in reason
    assert "hf_of_someone" not in reason


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (answer(errors.RepositoryNotFoundError, 404), "no such model repository on http://hub"),
        (answer(errors.RevisionNotFoundError, 404), "has no such revision"),
        (answer(errors.RemoteEntryNotFoundError, 404), "has no file 'model.safetensors'"),
        (answer(errors.HfHubHTTPError, 401), "does not accept your token"),
        (answer(errors.HfHubHTTPError, 403), "forbids access"),
        (answer(errors.HfHubHTTPError, 429), "fewer requests"),
        (answer(errors.HfHubHTTPError, 502), "http://hub.test answers with error 502"),
        (errors.LocalEntryNotFoundError("no connection"), "http://hub.test cannot be reached"),
        (httpx2.ConnectError("refused"), "cannot be reached"),
        (httpx2.ReadTimeout("too long"), "cannot be reached"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (RuntimeError("Internal: IO Error: No space left on device (os error 28)"), "disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be written"),
    ],
)
def test_each_refusal_is_one_line_even_when_wrapped(error, expected):
    assert expected in explained(error)
    wrapped = OSError("Can't load the configuration")
    wrapped.__cause__ = error
    outer = ValueError("wrapped twice")
    outer.__context__ = wrapped
    assert expected in explained(outer)


def test_disk_messages_name_the_cache_folder_and_the_variable():
    for number in (errno.ENOSPC, errno.EACCES, errno.EROFS):
        reason = explained(OSError(number, "x"))
        assert constants.HF_HUB_CACHE in reason
        assert "HF_HOME" in reason


def test_a_file_elsewhere_that_cannot_be_written_is_no_matter_of_the_hub():
    assert hub.explain(PermissionError(errno.EACCES, "denied", "/etc/scores.parquet"), REPO) is None
    assert hub.explain(ValueError("no"), REPO) is None


def test_the_reason_of_a_cache_miss_is_named_not_the_miss():
    miss = errors.LocalEntryNotFoundError("cannot find it in the cache")
    miss.__cause__ = answer(errors.HfHubHTTPError, 503)
    assert "answers with error 503" in explained(miss)


def test_offline_mode_is_no_outage(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reason = explained(errors.LocalEntryNotFoundError("not there"))
    assert "offline mode is on; unset HF_HUB_OFFLINE" in reason


def test_a_circular_chain_ends():
    first, second = ValueError("1"), ValueError("2")
    first.__context__, second.__context__ = second, first
    assert hub.explain(first, REPO) is None


@pytest.mark.parametrize(("kind", "raised"), [("model", ModelError), ("dataset", DataError)])
def test_fetch_raises_the_error_of_its_kind(monkeypatch, kind, raised):
    def fail(*_arguments, **_options):
        raise answer(errors.RepositoryNotFoundError, 404)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(raised, match="no such"):
        hub.fetch(REPO, "config.json", kind=kind)


def test_a_terminal_cannot_be_driven_by_a_file_name():
    error = answer(errors.RemoteEntryNotFoundError, 404, "/a/b/resolve/main/x%1b%5b2J")
    assert "\x1b" not in explained(error)


def test_the_commit_of_a_cached_file_is_read_from_its_path(tmp_path):
    commit = "0123456789abcdef" * 2 + "01234567"
    file = tmp_path / "models--a--b" / "snapshots" / commit / "folder" / "config.json"
    assert hub.commit_of(file) == commit
    assert hub.commit_of(tmp_path / "config.json") is None
    assert hub.commit_of(tmp_path / "snapshots" / "main" / "config.json") is None


def test_a_response_without_a_status_is_no_status():
    error = ValueError("odd")
    error.response = SimpleNamespace(status_code=None)
    assert hub.explain(error, REPO) is None


def test_absent_files_are_no_outage_and_are_not_asked_for_again(monkeypatch, tmp_path):
    asked = []

    def download(repo, file, *_rest):
        asked.append(file)
        if file == "there.json":
            return tmp_path / file
        raise answer(errors.RemoteEntryNotFoundError, 404)

    monkeypatch.setattr(hub, "_download", download)
    assert hub.fetch_first(REPO, ["a.json", "there.json"]) == tmp_path / "there.json"
    assert hub.fetch_first(REPO, ["a.json", "b.json"]) is None
    commit = "0123456789" * 4
    known = tmp_path / "cache" / "models--google--gemma-2-2b" / ".no_exist" / commit / "a.json"
    known.parent.mkdir(parents=True)
    known.touch()
    asked.clear()
    assert hub.fetch_first(REPO, ["a.json"], revision=commit) is None
    assert asked == []

    def broken(*_arguments):
        raise errors.LocalEntryNotFoundError("the connection broke")

    monkeypatch.setattr(hub, "_download", broken)
    monkeypatch.setattr(hub, "_REACHED", {"http://hub.test": (0.0, True)})
    with pytest.raises(ModelError, match="cannot be reached"):
        hub.fetch_first(REPO, ["chat_template.jinja"])
