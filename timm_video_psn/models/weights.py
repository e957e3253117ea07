"""Video weights from a folder or the Hugging Face Hub, checked before timm loads them.

timm and the Hub's client check a download for its size only, take a pickle where there is no safetensors file, and
look a branch up once for `config.json` and once for the weights. Here the weights are those of one commit, are a
safetensors file, and have the sha256 that was published.
"""

import json
import logging
from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg

from timm_video_psn.files import file_sha256

WEIGHTS_NAME = "model.safetensors"
_logger = logging.getLogger(__name__)


def pin_weights(
    cfg: PretrainedCfg,
    overlay: dict[str, Any] | None = None,
    cache_dir: str | None = None,
    sha256: str | None = None,
) -> dict[str, Any]:
    """Check the weights that a cfg names, downloading them if they are on the Hub.

    The sha256 to expect is `sha256`, else that in the `config.json` beside the weights, entry `weights`.

    Args:
        cfg: a resolved cfg that has weights.
        overlay: what the caller of `create_model` put into it; a pickle must be named there to be accepted.
        cache_dir: where timm keeps what it downloads.
        sha256: of the weights, as the zoo knows it.

    Returns:
        Entries that replace those of the cfg: a model from the Hub is pinned to the commit that was checked.

    Raises:
        ValueError: the file is not the one that was published, or would be a pickle that nobody asked for.
        FileNotFoundError: a folder has no weights.
    """
    if cfg.source == "local-dir":
        _check_folder(Path(cfg.file or ""), sha256)
        return {}
    if cfg.source == "hf-hub" or (cfg.hf_hub_id and not (cfg.state_dict or cfg.file)):
        return _pin_hub(cfg, overlay or {}, cache_dir, sha256)
    return {}  # tensors in memory, or a file or an address that the caller has named


def _check_folder(folder: Path, sha256: str | None) -> None:
    """Check the weights of a model folder."""
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        pickles = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pth", ".pt"))
        if not pickles:
            raise FileNotFoundError(f"{folder} has no {WEIGHTS_NAME}; use a folder that train_video.py or timm saved")
        raise ValueError(
            f"{folder} has no {WEIGHTS_NAME}, but {', '.join(pickles)}. {_WHY_NO_PICKLES} "
            f"pretrained_cfg_overlay=dict(source='file', file='{folder / pickles[0]}')"
        )
    _check_sha256(weights, sha256 or _stated_sha256(folder / "config.json"), f"replace {weights}")


def _pin_hub(cfg: PretrainedCfg, overlay: dict[str, Any], cache_dir: str | None, sha256: str | None) -> dict[str, Any]:
    """Download the weights, check them, and say which commit they are of."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repo, _, revision = str(cfg.hf_hub_id).partition("@")
    filename = cfg.hf_hub_filename or WEIGHTS_NAME
    if not filename.endswith(".safetensors"):
        if overlay.get("hf_hub_filename") == filename:
            return {}  # asked for by name; timm reads it with weights_only=True
        raise ValueError(
            f"the config.json of {repo} names {filename} as its weights. {_WHY_NO_PICKLES} "
            f"pretrained_cfg_overlay=dict(hf_hub_filename='{filename}')"
        )

    def download(name: str, commit: str | None) -> Path:
        return Path(hf_hub_download(repo, name, revision=commit, cache_dir=cache_dir, library_name="timm_video_psn"))

    commit: str | None = revision or None
    try:
        config = download("config.json", commit)
        commit, stated = config.parent.name, _stated_sha256(config)
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):  # there may be one: the Hub could not be asked
            raise
        stated = None
    try:
        weights = download(filename, commit)
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise
        raise ValueError(
            f"{repo} on the Hub has no {filename} at {commit or 'main'}. {_WHY_NO_PICKLES} "
            "pretrained_cfg_overlay=dict(hf_hub_filename='pytorch_model.bin'), or what it is called there"
        ) from error
    expected = sha256 or stated
    if expected is None:
        _logger.warning(
            f"{repo} states no sha256 of its weights: that {filename} has the right size is all that is known"
        )
    _check_sha256(weights, expected, f"delete {weights.resolve()} and load again: it will be downloaded anew")
    commit = weights.parents[len(Path(filename).parts) - 1].name  # snapshots/<commit>/<filename>
    return {"hf_hub_id": f"{repo}@{commit}", "hf_hub_filename": filename}


_WHY_NO_PICKLES = (
    "Other files of weights are pickles, which are not loaded unasked. If you trust their author, name the file, and "
    "it is read with weights_only=True:"
)


def _stated_sha256(config: Path) -> str | None:
    """What a published config.json says of its weights."""
    if not config.is_file():
        return None
    weights = json.loads(config.read_text(encoding="utf-8")).get("weights")
    return weights.get("sha256") if isinstance(weights, dict) else None


def _check_sha256(path: Path, expected: str | None, remedy: str) -> None:
    """Raise if a file is not the one that is expected."""
    if expected is None:
        return
    found = file_sha256(path)
    if found != expected:
        raise ValueError(
            f"{path} is not the file that was published: its sha256 is {found}, expected is {expected}. It is damaged "
            f"or was exchanged, and has not been loaded; {remedy}"
        )
