"""Fetch single files from the Hugging Face hub, and say in one line why that failed.

huggingface_hub does the work and keeps its cache; it reads HF_ENDPOINT, HF_HOME,
HF_TOKEN and HF_HUB_OFFLINE. The libraries above it (transformers, sae-lens, datasets)
wrap its errors in their own, so that `explain` looks through the whole chain.
"""

import errno
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from geofilter.errors import DataError, ModelError
from geofilter.support.display import escape

Kind = Literal["model", "dataset"]

# huggingface_hub changed its HTTP library more than once, and the core does not import any.
_HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "requests", "urllib3", "aiohttp")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(repo: str, file: str, *, revision: str | None = None, kind: Kind = "model") -> Path:
    """Path of `file` of the hub repository `repo`, fetched unless it is in the cache.

    `revision` is a branch, tag or commit; None is the main branch. Raises `ModelError`
    (`DataError` for data sets) in one line that says what to type.
    """
    try:
        return _download(repo, file, revision, kind)
    except Exception as error:  # of a dozen kinds, from several libraries
        raise _failure(error, repo, file, kind) from error


def fetch_first(repo: str, files: Sequence[str], *, revision: str | None = None) -> Path | None:
    """Path of the first of `files` that the model repository has; None if it has none.

    Without a network, what is not in the cache counts as absent: the cache does not know
    an absent file from one that was never fetched. Raises `ModelError` as `fetch` does.
    """
    from huggingface_hub import constants, errors, try_to_load_from_cache

    for file in files:
        # A commit does not change: what it lacked once it lacks for good.
        known = try_to_load_from_cache(repo, file, revision=revision) if revision else None
        if known is not None and not isinstance(known, str):
            continue
        try:
            return _download(repo, file, revision, "model")
        except errors.RemoteEntryNotFoundError:
            continue
        except errors.LocalEntryNotFoundError as error:
            if constants.is_offline_mode() or not _REACHED.get(constants.ENDPOINT, (0, True))[1]:
                continue
            raise _failure(error, repo, file, "model") from error
        except Exception as error:  # as above
            raise _failure(error, repo, file, "model") from error
    return None


def holds(repo: str, file: str, *, revision: str | None = None) -> bool:
    """Whether the model repository has `file`, which is not fetched.

    Offline: whether the cache has it. Raises `ModelError` as `fetch` does.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    if unreachable() or cached(repo, file, revision=revision):
        return cached(repo, file, revision=revision)
    try:
        with quiet_hub():
            get_hf_file_metadata(hf_hub_url(repo, file, revision=revision))
    except errors.EntryNotFoundError:
        return False
    except Exception as error:  # as above
        raise _failure(error, repo, file, "model") from error
    return True


def is_absence(error: BaseException) -> bool:
    """Whether `fetch` failed because the repository, or offline the cache, has no such file."""
    from huggingface_hub.errors import EntryNotFoundError

    return isinstance(error.__cause__, EntryNotFoundError)


def _download(repo: str, file: str, revision: str | None, kind: Kind) -> Path:
    from huggingface_hub import constants, hf_hub_download

    with quiet_hub():
        known_only = not _reachable(constants.ENDPOINT, repo, file, revision, kind)
        return Path(
            hf_hub_download(
                repo, file, revision=revision, repo_type=kind, local_files_only=known_only
            )
        )


def _failure(error: Exception, repo: str, file: str, kind: Kind) -> ModelError | DataError:
    reason = explain(error, repo, kind)
    if reason is None:
        text = escape(" ".join(str(error).split()), limit=200)
        reason = f"{escape(repo, limit=200)}: {escape(file)} cannot be fetched: {text}"
    return (ModelError if kind == "model" else DataError)(reason)


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Keep the library's lines about each attempt off the terminal; errors say it once."""
    from huggingface_hub.utils import logging as library

    logging: Any = library  # it has no types
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


# Endpoint -> when it was last asked, and whether a host answered.
_REACHED: dict[str, tuple[float, bool]] = {}
_ASK_AGAIN = 60.0  # seconds, after no answer


def _reachable(endpoint: str, repo: str, file: str, revision: str | None, kind: Kind) -> bool:
    """Whether a host answers at `endpoint`; asked until it did once in this process.

    huggingface_hub tries again for half a minute before it gives up, which is right in
    the middle of a download and wrong when there is no network at all.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    when, answered = _REACHED.get(endpoint, (-_ASK_AGAIN, False))
    if answered or constants.is_offline_mode() or time.monotonic() - when < _ASK_AGAIN:
        return answered or constants.is_offline_mode()
    answered = True
    try:
        get_hf_file_metadata(hf_hub_url(repo, file, repo_type=kind, revision=revision))
    except Exception as error:  # the download itself reports best what is no outage
        answered = status_of(error) is not None or not is_outage(error)
    _REACHED[endpoint] = (time.monotonic(), answered)
    return answered


def unreachable() -> bool:
    """Whether offline mode is on, or no host answered when it was last asked in this process."""
    from huggingface_hub import constants

    _, answered = _REACHED.get(constants.ENDPOINT, (0.0, True))
    return constants.is_offline_mode() or not answered


def cached(repo: str, file: str, *, revision: str | None = None) -> bool:
    """Whether `file` of the model repository lies in the cache; nothing is asked of the hub."""
    from huggingface_hub import constants, try_to_load_from_cache

    # Read here: as a default argument it would be what it was when the library was imported.
    place = constants.HF_HUB_CACHE
    return isinstance(try_to_load_from_cache(repo, file, cache_dir=place, revision=revision), str)


def commit_of(path: Path) -> str | None:
    """The commit that a file of the hub's cache belongs to, or None for any other file."""
    parts = path.absolute().parts
    after = parts[parts.index("snapshots") + 1 :] if "snapshots" in parts else ()
    return after[0] if after and _COMMIT.fullmatch(after[0]) else None


def main_commit(repo: str) -> str | None:
    """The commit of the main branch when a file of the model repository was last fetched."""
    from huggingface_hub import constants

    ref = Path(constants.HF_HUB_CACHE, f"models--{repo.replace('/', '--')}", "refs", "main")
    try:
        commit = ref.read_text().strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def newest_commit(repo: str) -> str:
    """The commit of the main branch of the model repository, as the hub says it is now.

    Raises `ModelError` as `fetch` does.
    """
    from huggingface_hub import model_info

    try:
        with quiet_hub():
            commit = model_info(repo).sha
    except Exception as error:  # as in `fetch`
        raise _failure(error, repo, "main", "model") from error
    if commit is None or not _COMMIT.fullmatch(commit):
        raise ModelError(f"{escape(repo, limit=200)}: the hub names no commit; try again later")
    return commit


def explain(error: BaseException, repo: str, kind: Kind = "model") -> str | None:
    """One line that says why the hub did not give what was asked of `repo`, and what to do.

    None when neither `error` nor anything it was raised from is a matter of the hub.
    """
    chain = list(_chain(error))
    for reason_in in (_refusal, _disk, _absence, _offline, _server_error, _outage):
        for link in chain:
            if reason := reason_in(link, repo, kind):
                return f"{escape(repo, limit=200)}: {reason}"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from or during, each once, outermost first."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [link.__cause__, link.__context__]


def _refusal(error: BaseException, repo: str, kind: Kind) -> str | None:
    """Gated, private or unknown repositories, unknown revisions, bad tokens."""
    from huggingface_hub import errors, get_token

    place = page(repo, kind)
    if isinstance(error, errors.GatedRepoError):
        if get_token() is None:
            return (
                f"the repository is gated; accept its terms at {place}, then run "
                "`hf auth login` or set HF_TOKEN"
            )
        return (
            "the repository is gated and the account of your token has no access; accept its "
            f"terms at {place}, or log in to an account that has it with `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        private = (
            "; if it is private, run `hf auth login` or set HF_TOKEN"
            if get_token() is None
            else ", or it is private and the account of your token has no access"
        )
        return f"there is no such {_noun(kind)} on {endpoint()}; check the name{private}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no such revision; see {place}/commits/main for those it has"
    status = status_of(error)
    if status == 401:
        return (
            "the hub does not accept your token; run `hf auth login` again or set another HF_TOKEN"
        )
    if status == 403:
        return f"the hub forbids access with your token; see {place}, or use another token"
    return None


def _disk(error: BaseException, repo: str, kind: Kind) -> str | None:
    """A full disk, or a cache folder that cannot be written."""
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    # The accelerated downloader has no exception of its own for it.
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
        return (
            f"the disk is full; make room in the cache folder {_cache()}, "
            "or set HF_HOME to a folder on a larger disk"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        file = getattr(error, "filename", None)
        if file is None or str(file).startswith(_cache()):
            return (
                f"the cache folder {_cache()} cannot be written; change its permissions, "
                "or set HF_HOME to a folder of your own"
            )
    return None


def _absence(error: BaseException, repo: str, kind: Kind) -> str | None:
    from huggingface_hub import errors

    if not isinstance(error, errors.RemoteEntryNotFoundError):
        return None
    file = _file_of(error)
    named = f"no file {escape(file)!r}" if file else "no such file"
    return f"the repository has {named}; see {page(repo, kind)}/tree/main for those it has"


def _offline(error: BaseException, repo: str, kind: Kind) -> str | None:
    from huggingface_hub import constants, errors

    waiting = isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError))
    if waiting and constants.is_offline_mode():
        return (
            f"it is not in the cache folder {_cache()} and offline mode is on; unset "
            "HF_HUB_OFFLINE to fetch it, or set HF_HOME to where it lies"
        )
    return None


def _server_error(error: BaseException, repo: str, kind: Kind) -> str | None:
    status = status_of(error)
    if status == 429:
        return "the hub asks for fewer requests; wait some minutes and type the command again"
    if status is not None and status >= 500:
        return (
            f"{endpoint()} answers with error {status}; try again later, "
            "or set HF_ENDPOINT to a mirror"
        )
    return None


def _outage(error: BaseException, repo: str, kind: Kind) -> str | None:
    if not is_outage(error):
        return None
    return (
        f"{endpoint()} cannot be reached and the file is not in the cache; check the "
        "network and the proxy, or set HF_ENDPOINT to a mirror"
    )


def is_outage(error: BaseException) -> bool:
    """Whether `error` says that no host answered."""
    from huggingface_hub import errors

    kinds = (errors.LocalEntryNotFoundError, errors.FileMetadataError, ConnectionError)
    if isinstance(error, (*kinds, TimeoutError)):
        return True
    from_http = any(
        base.__module__.partition(".")[0] in _HTTP_LIBRARIES for base in type(error).__mro__
    )
    return from_http and status_of(error) is None and not isinstance(error, ValueError)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that `error` reports, if any."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _file_of(error: BaseException) -> str | None:
    """The file that a request for `.../resolve/REVISION/FILE` named."""
    url = getattr(getattr(error, "response", None), "url", None)
    found = re.search(r"/(?:resolve|raw)/[^/]+/(.+)$", urlsplit(str(url)).path) if url else None
    return unquote(found[1]) if found else None


def endpoint() -> str:
    """The address of the hub, in visible characters."""
    from huggingface_hub import constants

    return escape(constants.ENDPOINT, limit=200)


def _cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def page(repo: str, kind: Kind) -> str:
    """The address of a repository's page."""
    folder = "datasets/" if kind == "dataset" else ""
    return f"{endpoint()}/{folder}{escape(repo, limit=200)}"


def _noun(kind: Kind) -> str:
    return "data set" if kind == "dataset" else "model repository"
