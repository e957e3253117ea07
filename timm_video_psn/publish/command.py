"""Publishing a trained model on the Hugging Face Hub, and getting exactly it back.

The folder is built, loaded from the disk and compared bit for bit; uploaded in one commit; downloaded into an empty
cache and compared again. hub/README.md says more.
"""

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import get_token

from timm_video_psn.console import CommandEnded
from timm_video_psn.engine.model_source import find_folder
from timm_video_psn.files import file_sha256
from timm_video_psn.models.published_weights import MANIFEST, Published
from timm_video_psn.publish.bundle import OPTIONAL, REQUIRED, WEIGHTS, Example, build_bundle, check_bundle, check_model
from timm_video_psn.publish.register import check_registrable, register
from timm_video_psn.publish.upload import HubRepository


def publish(options: argparse.Namespace) -> None:
    """Builds, checks, uploads and compares; no error that comes out of it shows the token.

    Args:
        options: See `command_line.publish`.

    Raises:
        ValueError: The model, its files or the options do not fit, files cannot be read or written, or something failed
            after the Hub was first spoken to; the message says what is on the Hub.
        CommandEnded: The user has interrupted it.
    """
    options.token = (options.token or get_token() or "").strip() or None
    if options.register is True:
        options.register = MANIFEST
    try:
        _publish(options)
    except (ValueError, OSError) as error:
        raise ValueError(_without_secrets(str(error), options.token)) from None  # its causes may quote the token


def _publish(options: argparse.Namespace) -> None:
    """What `publish` does."""
    best = find_folder(str(options.model))
    repository = HubRepository(options.repo_id, options.revision, options.token)
    if options.dry_run:
        _check_target(options.dry_run, best)
    with tempfile.TemporaryDirectory(prefix="publish-") as temporary:
        folder, cache = Path(temporary, "folder"), Path(temporary, "cache")
        folder.mkdir()
        example = build_bundle(best, folder, options.repo_id, options.license, options.results)
        if options.register:
            check_registrable(folder, options.register)
        check_bundle(folder, example)
        print(f"built: {', '.join(sorted(path.name for path in folder.iterdir()))}")
        print("loaded from the disk: the logits are the same, bit for bit")
        if options.dry_run:
            _keep(folder, options.dry_run)
            print(f"dry run: {options.dry_run} holds what would be uploaded; nothing was sent")
            return
        try:
            _upload_and_compare(repository, folder, cache, example, options)
            if options.register:
                where = Published(options.repo_id, repository.after, file_sha256(folder / WEIGHTS))
                print(f"registered: {register(folder, where, options.register)} in {options.register}")
        except KeyboardInterrupt:
            raise CommandEnded(f"interrupted. {repository.what_is_there()}", 130) from None
        except Exception as error:  # whatever it was: the user must know what is on the Hub now
            raise ValueError(f"{_told(error)}\n{repository.what_is_there()}") from error


def _upload_and_compare(
    repository: HubRepository, folder: Path, cache: Path, example: Example, options: argparse.Namespace
) -> None:
    """All that speaks to the Hub."""
    repository.prepare(options.private, options.tag)
    architecture = json.loads((folder / "config.json").read_text())["architecture"].partition(".")[0]
    changed = repository.upload(folder, OPTIONAL, f"Publish {architecture} by timm_video_psn", options.tag)
    if changed:
        print(f"uploaded in one commit, {repository.after}: {', '.join(changed)}")
    else:
        print(f"nothing has changed since {repository.after}: no commit has been made")
    there = repository.download(cache)
    for path in folder.iterdir():
        if file_sha256(there / path.name) != file_sha256(path):
            raise ValueError(f"{path.name} came back from the Hub with different content")
    check_model(f"hf-hub:{options.repo_id}@{repository.after}", example, cache)
    print("downloaded into an empty cache: files and logits are the same, bit for bit")
    if options.tag:
        repository.add_tag(options.tag)
        print(f"tag: {options.tag}")
    print(f"load it with: timm.create_model('hf-hub:{options.repo_id}', pretrained=True), after import timm_video_psn")


def _without_secrets(text: str, token: str | None) -> str:
    """An error's text that may be shown to others.

    The HTTP library may quote a header that it could not send, and the addresses of uploads carry their signatures.
    """
    text = text.replace(token, "<token>") if token else text
    return re.sub(r"(https?://[^\s'\"?]+)\?[^\s'\"]+", r"\1?...", text)


def _told(error: BaseException) -> str:
    """An error with its causes, which the Hub's client keeps the interesting part in."""
    lines = [f"{type(error).__name__}: {error}"]
    cause = error.__cause__
    while cause is not None and str(cause) not in lines[-1]:
        lines.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__
    return "\n  because of ".join(lines)


def _check_target(target: Path, best: Path) -> None:
    """Raises unless the folder of a dry run is empty, or holds an earlier one alone."""
    if target.resolve() == best.resolve():
        raise ValueError(f"--dry-run {target} is the folder to publish; name another one")
    if target.exists() and not target.is_dir():
        raise ValueError(f"--dry-run {target} is not a folder; name an empty or a new one")
    there = {path.name for path in target.iterdir()} if target.is_dir() else set()
    strangers = sorted(there - {*REQUIRED, *OPTIONAL})
    if strangers:
        raise ValueError(f"{target} holds other files ({', '.join(strangers)}); use an empty folder for --dry-run")


def _keep(folder: Path, target: Path) -> None:
    """Puts what was built into the folder of a dry run."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (*REQUIRED, *OPTIONAL):
        (target / name).unlink(missing_ok=True)
    for path in folder.iterdir():
        shutil.copyfile(path, target / path.name)
