"""What a user of the Hub does, to be run in a process of its own whose clients know only the loopback Hub.

Nothing of huggingface_hub or timm may be imported before `set_up` has run: they read their settings when imported.
"""

import faulthandler
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
LIMIT_SEC = 180  # of a call; the Hub's client itself waits for answers without end


class Outcome(NamedTuple):
    """What came back from a call, its exit code or the error's text, and all that it printed."""

    value: Any
    error: str
    output: str


def set_up(settings: dict[str, str]) -> None:
    """Settings of the process."""
    for key in [key for key in os.environ if key.startswith("HF_")]:
        del os.environ[key]
    os.environ.update(settings)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with it ignored


def call(function: Callable[..., Any], arguments: tuple[Any, ...], environment: dict[str, str]) -> Outcome:
    """Call, and catch what the process and its libraries print, whichever way they do.

    A call that hangs ends the process, after it has shown where.
    """
    os.environ.update(environment)
    saved = os.dup(1), os.dup(2)
    faulthandler.dump_traceback_later(LIMIT_SEC, exit=True, file=saved[1])
    value, error = None, ""
    with tempfile.TemporaryFile() as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            value = function(*arguments)
        except Exception as caught:  # the test looks at it
            error = f"{type(caught).__name__}: {caught}"
        finally:
            faulthandler.cancel_dump_traceback_later()
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            for key in environment:
                del os.environ[key]
        file.seek(0)
        return Outcome(value, error, file.read().decode())


def publish(*arguments: str) -> int:
    """hub/publish.py."""
    from timm_video_psn.__main__ import publish as publish_main

    return publish_main(arguments)


def publish_from(folder: str, *arguments: str) -> int:
    """hub/publish.py with another working directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return publish(*arguments)
    finally:
        os.chdir(before)


def publish_impatiently(*arguments: str) -> int:
    """hub/publish.py that waits for no silent server."""
    from timm_video_psn.publish import upload

    before, upload.SILENCE_SEC = upload.SILENCE_SEC, 3
    try:
        return publish(*arguments)
    finally:
        upload.SILENCE_SEC = before
        upload.limit_waiting()  # else what comes next in this process would be as impatient


def predict(*arguments: str) -> int:
    """predict_video.py."""
    from timm_video_psn.__main__ import predict as predict_main

    return predict_main(arguments)


def run_script(path: str) -> None:
    """A script as its own."""
    runpy.run_path(path)


def load(name: str, cache_dir: str, saved: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Create a model by timm, and save its tensors."""
    import timm
    import torch

    import timm_video_psn  # noqa: F401 - registers the models

    model = timm.create_model(name, pretrained=True, cache_dir=cache_dir, **kwargs)
    torch.save(model.state_dict(), saved)
    cfg = {key: value for key, value in model.pretrained_cfg.items() if key != "state_dict"}
    return {"cfg": cfg, "num_frames": model.num_frames, "num_classes": model.num_classes, "args": model._model_args}


def load_from_zoo(manifest: str, *arguments: Any) -> dict[str, Any]:
    """`load`, with another manifest than the package's."""
    from timm_video_psn.models import published_weights

    before, published_weights.MANIFEST = published_weights.MANIFEST, Path(manifest)
    try:
        return load(*arguments)
    finally:
        published_weights.MANIFEST = before


def load_trained(source: str, cache_dir: str) -> None:
    """Loads a model as predict, validate and the Space do, by a client that waits for 3 seconds."""
    from huggingface_hub import constants

    from timm_video_psn import hub_files
    from timm_video_psn.engine.load_model import load as load_model

    names = ("HF_HUB_CACHE", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
    before = [getattr(constants, name) for name in names]
    silent = hub_files._SILENT_SEC
    constants.HF_HUB_CACHE, constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT = cache_dir, 3, 3
    hub_files._SILENT_SEC = 3
    try:
        load_model(source, "cpu")
    finally:
        hub_files._SILENT_SEC = silent
        for name, value in zip(names, before, strict=True):
            setattr(constants, name, value)
