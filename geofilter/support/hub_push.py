"""Put files into a repository of the Hugging Face hub, as one commit.

`huggingface_hub` does the work, and reads HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE. What a
repository holds already is looked at first, and nothing that came in between is overwritten.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from geofilter.errors import GeofilterError, OutputError
from geofilter.support import hub
from geofilter.support.display import escape

CARD = "README.md"
# What the hub itself puts into a new repository.
NOTHING = frozenset({".gitattributes", CARD})

Visibility = Literal["private", "public"]
# Given the names of the files that a repository holds, those of them that are to go. Raises
# where the repository is not to be written to.
Look = Callable[[Collection[str]], Collection[str]]
_PATIENCE = 10.0  # seconds for an answer about a repository


def check_push(repo: str, kind: hub.Kind, visibility: Visibility | None, look: Look) -> None:
    """Raise `OutputError` where `push_files` would be refused, as far as can be seen before.

    Nothing is written. A repository that does not exist is fine.
    """
    from huggingface_hub import HfApi, errors

    _check_access(repo)
    try:
        with hub.quiet_hub():
            info = HfApi().repo_info(repo, repo_type=kind, timeout=_PATIENCE)
            look(_names(info))
            _check_visibility(repo, kind, info, visibility)
    except errors.GatedRepoError as error:
        raise OutputError(_reason(error, repo, kind)) from error
    except errors.RepositoryNotFoundError:
        return
    except GeofilterError:
        raise
    except Exception as error:  # of a dozen kinds, from several libraries
        raise OutputError(_reason(error, repo, kind)) from error


def push_files(
    repo: str,
    files: Mapping[str, bytes | Path],
    *,
    kind: hub.Kind,
    message: str,
    look: Look,
    visibility: Visibility | None = None,
) -> str:
    """Put `files`, by their names there, into `repo` (ORG/NAME); returns the commit's address.

    The repository is made unless it exists: private or public as `visibility` says, without it as
    is usual for the account. One that exists keeps its visibility, and has to have the one that
    is asked for. Files that `look` names are removed in the same commit.

    Raises `OutputError` in one line where the hub refuses, and what `look` raises.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    _check_access(repo)
    private = None if visibility is None else visibility == "private"
    api = HfApi()
    try:
        with hub.quiet_hub():
            api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
            info = api.repo_info(repo, repo_type=kind)
            gone = look(_names(info))
            _check_visibility(repo, kind, info, visibility)
            done = api.create_commit(
                repo,
                [
                    *(CommitOperationDelete(path) for path in sorted(set(gone) - set(files))),
                    *(CommitOperationAdd(path, content) for path, content in files.items()),
                ],
                repo_type=kind,
                commit_message=message,
                # A push in between is not overwritten unseen.
                parent_commit=info.sha,
            )
    except GeofilterError:
        raise
    except Exception as error:  # as above
        raise OutputError(_reason(error, repo, kind)) from error
    return str(done.commit_url)


def _names(info: Any) -> set[str]:
    return {file.rfilename for file in info.siblings or ()}


def _check_access(repo: str) -> None:
    from huggingface_hub import constants, get_token

    if get_token() is None:
        raise OutputError(f"{repo}: pushing needs a token; run `hf auth login` or set HF_TOKEN")
    if constants.is_offline_mode():
        raise OutputError(
            f"{repo}: cannot be pushed to, since offline mode is on; unset HF_HUB_OFFLINE"
        )


def _check_visibility(repo: str, kind: hub.Kind, info: Any, visibility: Visibility | None) -> None:
    found = "private" if info.private else "public"
    if visibility not in (None, found):
        raise OutputError(
            f"{repo}: exists and is {found}, not {visibility} as asked; make it {visibility} in "
            f"its settings at {hub.page(repo, kind)}/settings, or take another name"
        )


def _reason(error: Exception, repo: str, kind: hub.Kind) -> str:
    """One line that says why nothing was pushed."""
    status = hub.status_of(error)
    if status == 403:
        return (
            f"{repo}: the account of your token may not write there; take a name of your own "
            "account or organisation, and a token with write access"
        )
    if status in (409, 412):
        return f"{repo}: was changed meanwhile; push it again"
    if hub.is_outage(error) and status is None:
        return (
            f"{repo}: cannot be pushed to, since {hub.endpoint()} cannot be reached; check the "
            "network and the proxy, or set HF_ENDPOINT to another hub"
        )
    text = escape(" ".join(str(error).split()), limit=200)
    return hub.explain(error, repo, kind) or f"{repo}: cannot be pushed to: {text}"
