"""Files of the Hugging Face Hub: downloaded to its cache, and faults of network and server told in plain words."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from timm_video_psn.saved_config import read_saved_config

CONFIG = "config.json"
_SILENT_SEC = 20.0  # after which a server that says nothing counts as gone
_logger = logging.getLogger(__name__)


class HubError(OSError):
    """The Hub has not given a file, for a reason that the message states.

    Args:
        message: What happened, and what to do.
        is_passing: The connection or the server has failed, which says nothing about the file.
    """

    def __init__(self, message: str, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class NotOnHubError(HubError):
    """The repository is there, and the file is not."""


def hub_file(repo: str, name: str, revision: str | None = None, cache_dir: Any = None, anew: bool = False) -> Path:
    """Downloads a file of a repository, or finds it in the cache.

    Args:
        repo: `user/name`.
        name: Name of the file.
        revision: Branch, tag or commit; None for `main`.
        cache_dir: Cache of the Hub's client; None for its own choice.
        anew: Download the file even if it is in the cache.

    Raises:
        NotOnHubError: The repository has no such file.
        HubError: The file cannot be had for another reason.
        ValueError: `repo` is not the name of a repository.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    what = f"{name} of {repo}"
    with hub_faults(what):
        known = try_to_load_from_cache(repo, name, cache_dir=cache_dir, revision=revision)
    has_copy = isinstance(known, str) and not anew
    try:
        with hub_faults(what):
            if not has_copy:  # the client itself would ask a silent server for six minutes
                get_hf_file_metadata(hf_hub_url(repo, name, revision=revision), timeout=_SILENT_SEC)
            file = hf_hub_download(
                repo, name, revision=revision, cache_dir=cache_dir, library_name="timm_video_psn", force_download=anew
            )
    except HubError as error:
        if not has_copy or not error.is_passing:
            raise
        _logger.warning("%s; the copy in the cache is used: %s", error, known)
        file = str(known)
    return Path(file)


def hub_config(hub_id: str, cache_dir: Any = None) -> tuple[Path, dict[str, Any]]:
    """Downloads and checks the `config.json` of a repository; a damaged copy in the cache is replaced.

    Args:
        hub_id: `user/name`, or `user/name@revision`.
        cache_dir: See `hub_file`.

    Returns:
        The file, and what it says.

    Raises:
        HubError: See `hub_file`.
        ValueError: The file on the Hub is damaged, or does not describe a model.
    """
    repo, _, revision = hub_id.partition("@")
    path = hub_file(repo, CONFIG, revision or None, cache_dir)
    try:
        return path, read_saved_config(path)
    except (ValueError, OSError) as error:
        _logger.warning("%s; it is downloaded again", error)
        told = error
    try:
        path = hub_file(repo, CONFIG, revision or None, cache_dir, anew=True)
    except HubError as error:
        raise HubError(f"{told}. It could not be downloaded again: {error}. Or delete {path}, and try again") from error
    try:
        return path, read_saved_config(path)
    except ValueError as error:
        raise ValueError(f"{repo} on the Hub holds a file that cannot be used: {error}") from error


@contextmanager
def hub_faults(what: str) -> Iterator[None]:
    """Turns errors of the Hub's client into a `HubError` that says what happened and what to do.

    Args:
        what: What was to be downloaded, for the message.
    """
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, HTTPError

    try:
        yield
    except HubError:
        raise
    except HFValidationError as error:
        raise ValueError(f"{what}: this is not the name of a repository; use user/name ({_line(error)})") from error
    except (HfHubHTTPError, HTTPError, EntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise _told(what, error) from error
    except OSError as error:
        if "Consistency check failed" not in str(error):  # a broken download, as the client says it
            raise
        raise HubError(f"{what}: the download is incomplete; try again ({_line(error)})") from error


def _told(what: str, error: Exception) -> HubError:
    """What a failure of the client means."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = getattr(getattr(error, "response", None), "status_code", None)
    is_passing = isinstance(error, LocalEntryNotFoundError) or status is None or status >= 500 or status == 429
    if isinstance(error, GatedRepoError) or status == 403:
        text = (
            "the Hub does not let you read it (HTTP 403); ask for access on the repository's page, and run "
            "`hf auth login`, or set HF_TOKEN to a token with that right"
        )
    elif isinstance(error, RepositoryNotFoundError) or status == 401:
        text = (
            f"the Hub has no such repository, or none that you may see (HTTP {status}); check the name; for a private "
            "one run `hf auth login`, or set HF_TOKEN to a token that is valid"
        )
    elif isinstance(error, RevisionNotFoundError):
        text = "the repository has no such branch, tag or commit; check what follows @"
    elif isinstance(error, LocalEntryNotFoundError):
        text = (
            "the Hub cannot be reached, and the file is not in the cache; check the network (and HF_ENDPOINT, "
            f"HF_HUB_OFFLINE), and try again ({_cause(error)})"
        )
    elif isinstance(error, EntryNotFoundError):
        return NotOnHubError(f"{what}: the repository has no such file; use a repository of a model")
    elif status is not None:
        text = f"the Hub answers HTTP {status}; try again later ({_line(error)})"
    else:
        text = f"the Hub cannot be reached, or fell silent; check the network, and try again ({_cause(error)})"
    return HubError(f"{what}: {text}", is_passing)


def _cause(error: BaseException) -> str:
    """The innermost of the errors that led to one, in a line."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return f"{type(error).__name__}: {_line(error)}".removesuffix(": ")


def _line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
