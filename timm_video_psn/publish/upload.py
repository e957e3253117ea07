"""A model repository on the Hub: what is there, one commit that changes it, and the files of that commit back again."""

import hashlib
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from timm_video_psn.files import file_sha256
from timm_video_psn.version import __version__

Result = TypeVar("Result")
FAILURES = (HTTPError, OSError, RuntimeError)  # what the client raises for the network and for servers
SILENCE_SEC = 120  # after which a server that says nothing counts as gone
ATTEMPTS = 3  # the client itself repeats uploads, but neither the creation of a repository nor a commit
_logger = logging.getLogger(__name__)


class HubRepository:
    """One branch of one model repository.

    Args:
        repo_id: `user/name`.
        revision: Name of the branch.
        token: Token of the Hub; None for the one of `hf auth login` or `HF_TOKEN`.
    """

    def __init__(self, repo_id: str, revision: str = "main", token: str | None = None):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
            raise ValueError(f"repo_id={repo_id!r} is not a repository of the Hub; use user/name")
        self.repo_id, self.revision, self.token = repo_id, revision, token
        self.api = HfApi(token=token, library_name="timm_video_psn", library_version=__version__)
        self.made: list[str] = []  # what has been created on the way, in words
        self.before: str | None = None  # the branch's commit as it was found
        self.after: str | None = None  # our commit

    def prepare(self, private: bool, tag: str | None = None) -> None:
        """Makes sure of the login, the repository and the branch; create what is not there.

        Args:
            private: Only its owner may see the repository.
            tag: A name that is to be given to the commit; it must be free, or mean this branch's commit.

        Raises:
            PermissionError: The Hub does not accept the token.
            ValueError: The repository is public, but a private one was asked for; or the tag is taken.
        """
        limit_waiting()
        self._check_login()
        try:
            info = retry(lambda: self.api.repo_info(self.repo_id))
            if private and not info.private:
                raise ValueError(
                    f"{self.repo_id} exists and is public, but --private was given; make it private in its settings on "
                    "the Hub, or use another --repo-id"
                )
        except RepositoryNotFoundError:
            retry(lambda: self.api.create_repo(self.repo_id, private=private, exist_ok=True))
            self.made.append(f"the repository {self.repo_id}")
        refs = retry(lambda: self.api.list_repo_refs(self.repo_id))
        if self.revision not in {branch.name for branch in refs.branches}:
            retry(lambda: self.api.create_branch(self.repo_id, branch=self.revision, exist_ok=True))
            self.made.append(f"the branch {self.revision}")
        self.before = self.head()
        taken = {item.name: item.target_commit for item in refs.tags}
        if tag and taken.get(tag, self.before) != self.before:
            raise ValueError(
                f"the tag {tag} of {self.repo_id} already names commit {taken[tag][:8]}; use another, or delete it"
            )
        self._tags = taken

    def _check_login(self) -> None:
        try:
            user = retry(self.api.whoami)["name"]
        except HfHubHTTPError as error:
            if error.response is None or error.response.status_code not in (401, 403):
                raise
            raise PermissionError(
                f"the Hub does not accept the token (HTTP {error.response.status_code}); create one with write "
                "permission at https://huggingface.co/settings/tokens, for `hf auth login`, HF_TOKEN or --token"
            ) from None
        except LocalTokenNotFoundError:
            raise PermissionError(
                "not logged in to the Hub: run `hf auth login`, set HF_TOKEN or give --token"
            ) from None
        _logger.debug("logged in as %s", user)

    def head(self) -> str:
        """The commit of the branch now."""
        return str(retry(lambda: self.api.repo_info(self.repo_id, revision=self.revision)).sha)

    def changes(self, folder: Path, optional: tuple[str, ...] = ()) -> list[str]:
        """Names of the files that differ between a folder and the branch, or exist in only one of them.

        Args:
            folder: Folder that is to be there.
            optional: Files that are deleted where the folder lacks them; what else is there stays.
        """
        there = {
            item.path: item
            for item in retry(lambda: list(self.api.list_repo_tree(self.repo_id, revision=self.revision)))
            if isinstance(item, RepoFile)
        }
        changed = [path.name for path in folder.iterdir() if not _is_same(path, there.get(path.name))]
        surplus = [name for name in optional if name in there and not (folder / name).exists()]
        return sorted(changed + surplus)

    def upload(self, folder: Path, optional: tuple[str, ...], message: str, tag: str | None) -> list[str]:
        """Makes the branch hold the folder, in one commit; none if it does already.

        Args:
            folder: The files.
            optional: See `changes`.
            message: Message of the commit.
            tag: A name for the commit, which must be free if there is a commit to make.

        Returns:
            Names of the files that changed. `after` is the commit.

        Raises:
            ValueError: The tag is taken.
        """
        changed = self.changes(folder, optional)
        if changed and tag in self._tags:
            raise ValueError(f"the tag {tag} of {self.repo_id} already names other files; use another, or delete it")
        self.after = self._commit(folder, optional, changed, message) if changed else self.before
        return changed

    # create_commit has the Hub check the card's metadata before it sends any file.
    def _commit(self, folder: Path, optional: tuple[str, ...], changed: list[str], message: str) -> str:
        """One commit on top of `before`, and only there: repeating it cannot make two."""
        for attempt in range(1, ATTEMPTS + 1):
            operations = [
                CommitOperationAdd(name, folder / name) if (folder / name).exists() else CommitOperationDelete(name)
                for name in changed
            ]
            try:
                return self.api.create_commit(
                    self.repo_id,
                    operations,
                    commit_message=message,
                    revision=self.revision,
                    parent_commit=self.before,
                ).oid
            except FAILURES as error:
                now = self.head()
                if now != self.before and not self.changes(folder, optional):
                    return now  # only the answer was lost
                if now != self.before:
                    raise ValueError(
                        f"somebody else has changed {self.repo_id} in the meantime; run the command again"
                    ) from error
                if attempt == ATTEMPTS or not _may_pass(error):
                    raise
                time.sleep(attempt)
        raise AssertionError("the loop returns or raises")

    def add_tag(self, tag: str) -> None:
        """Names the commit.

        Args:
            tag: The name; no harm if the commit has it already.
        """
        if self._tags.get(tag) != self.after:
            retry(lambda: self.api.create_tag(self.repo_id, tag=tag, revision=self.after, exist_ok=True))

    def download(self, cache_dir: Path) -> Path:
        """Downloads the files of our commit.

        Args:
            cache_dir: An empty folder, where timm then finds them.

        Returns:
            The folder with the files.
        """
        return Path(retry(lambda: self.api.snapshot_download(self.repo_id, revision=self.after, cache_dir=cache_dir)))

    def what_is_there(self) -> str:
        """What the Hub holds, for somebody whose upload has failed."""
        if not self.made and self.before is None:
            return "Nothing on the Hub has been changed."
        made = f"Created on the way: {' and '.join(self.made)}. " if self.made else ""
        if self.before is None:
            return f"{made}No commit has been made."
        try:
            now = str(self.api.repo_info(self.repo_id, revision=self.revision).sha)
        except (HTTPError, OSError) as error:
            known = f"it was at {self.before[:8]} before"
            return f"{made}What {self.repo_id} holds now cannot be asked ({type(error).__name__}); {known}."
        if now == self.before:
            return f"{made}No commit has been made: {self.repo_id} is at {now[:8]} on {self.revision}, as it was."
        if now == self.after:
            return (
                f"{made}The commit {now} is on {self.revision} of {self.repo_id}, complete; before it was at "
                f"{self.before[:8]}."
            )
        return f"{made}{self.repo_id} is at {now[:8]} on {self.revision}, by a commit that this run cannot vouch for."


def limit_waiting() -> None:
    """Lets the Hub's client give up on a server that is silent for `SILENCE_SEC`; by default it waits without end."""
    client = get_session()
    hooks = client.event_hooks
    set_client_factory(lambda: type(client)(event_hooks=hooks, follow_redirects=True, timeout=SILENCE_SEC))


def retry(action: Callable[[], Result]) -> Result:
    """Calls a repeatable function, again if the connection or the server failed temporarily.

    Args:
        action: Function to call.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except FAILURES as error:
            if not _may_pass(error):
                raise
            _logger.warning("the Hub did not answer (%s); trying again in %d s", type(error).__name__, attempt)
            time.sleep(attempt)
    return action()


def _may_pass(error: BaseException | None) -> bool:
    """Whether it is worth trying again: the connection broke, or the server is overloaded or out of order.

    The client wraps some errors in others, and which of them differs between its releases: the causes count, too.
    """
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(error, HfHubHTTPError) and response is not None:
            return response.status_code == 429 or response.status_code >= 500
        if isinstance(error, HTTPError) and not isinstance(error, HfHubHTTPError):
            return True
        error = error.__cause__
    return False


def _is_same(path: Path, there: RepoFile | None) -> bool:
    """Whether the Hub holds this very file."""
    if there is None:
        return False
    if there.lfs:
        return there.lfs.sha256 == file_sha256(path)
    content = path.read_bytes()
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # as git names files
