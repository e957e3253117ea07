"""Which names have published video weights, where they are, and whether a download is what was published.

The manifest `published_weights.json` lists the names. With `TIMM_VIDEO_PSN_HUB=<user or organisation>` in the
environment, every name stands for the repository of the same name there; it is read whenever a model is created.

timm and the Hub's client check a download for its size only, take a pickle where there is no safetensors file, and
look a branch up once for `config.json` and once for the weights. Here the weights come from one commit, are a
safetensors file, and have the sha256 that was published.
"""

import json
import logging
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from timm.models import PretrainedCfg, load_model_config_from_hf, split_model_name_tag
from timm.models._hub import load_model_config_from_path  # not among timm's public names

from timm_video_psn.files import file_sha256
from timm_video_psn.hub_files import NotOnHubError, hub_config, hub_file
from timm_video_psn.saved_config import read_saved_config

MANIFEST = Path(__file__).with_name("published_weights.json")
SHIPPED = Path(__file__).parents[1] / "weights"  # a folder for each name whose weights come with the package
NAMESPACE_VARIABLE = "TIMM_VIDEO_PSN_HUB"
WEIGHTS_NAME = "model.safetensors"
_logger = logging.getLogger(__name__)


class Published(NamedTuple):
    """Where the weights of a name are.

    `revision` is a commit, `sha256` the checksum of `model.safetensors`. In a namespace of one's own the newest commit
    counts, and the checksum is what its `config.json` says.
    """

    repo: str
    revision: str | None = None
    sha256: str | None = None

    @property
    def hub_id(self) -> str:
        """As timm writes it: `user/name@revision`."""
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def find_published(name: str, manifest: Path | None = None) -> Published | None:
    """Where the weights of a name are, or None if none are published.

    Args:
        name: Name of a registered model.
        manifest: Path of a manifest; None for the package's.

    Raises:
        ValueError: The environment names no namespace, or the manifest's entry is not in its form.
    """
    entry = read_manifest(manifest).get(name)
    namespace = os.environ.get(NAMESPACE_VARIABLE)
    if namespace:
        if not re.fullmatch(r"[\w.-]+", namespace):
            raise ValueError(
                f"{NAMESPACE_VARIABLE}={namespace!r} is not a user or organisation of the Hub; use one name"
            )
        return Published(f"{namespace}/{entry.repo.partition('/')[2] if entry else name}")
    return entry


def read_manifest(manifest: Path | None = None) -> dict[str, Published | None]:
    """All names that stand for video weights; None are those that nobody has published.

    Args:
        manifest: Path of a manifest; None for the package's.

    Raises:
        ValueError: An entry is not in its form.
    """
    manifest = manifest or MANIFEST
    entries: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
    return {name: _parsed(manifest, name, entry) for name, entry in entries.items()}


def _parsed(manifest: Path, name: str, entry: Any) -> Published | None:
    """An entry, checked: a name must not stand for weights that can change."""
    if entry is None:
        return None
    forms = {"repo": r"[\w.-]+/[\w.-]+", "revision": r"[0-9a-f]{40}", "sha256": r"[0-9a-f]{64}"}
    if not isinstance(entry, dict) or entry.keys() != forms.keys():
        raise ValueError(f"{manifest}: {name} has {entry!r}; accepted are null, or a dict of {', '.join(forms)}")
    for key, form in forms.items():
        if not re.fullmatch(form, str(entry[key])):
            raise ValueError(f"{manifest}: {name} has {key}={entry[key]!r}, which does not match {form}")
    return Published(**entry)


def saved_settings(name: str, published: Published, cache_dir: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the `config.json` of published weights says.

    Args:
        name: The model that was asked for.
        published: Location of the weights.
        cache_dir: timm's download folder.

    Returns:
        The cfg, with the class names, and the arguments that the model was built with.

    Raises:
        ValueError: It is the config of another model, or damaged.
        HubError: The Hub does not give it.
    """
    hub_config(published.hub_id, cache_dir)
    cfg, architecture, model_args = load_model_config_from_hf(published.hub_id, cache_dir=cache_dir)
    if split_model_name_tag(architecture)[0] != name:
        raise ValueError(
            f"{published.hub_id} is a {split_model_name_tag(architecture)[0]}, but {name} was asked for; load it with "
            f"create_model('hf-hub:{published.hub_id}', pretrained=True)"
        )
    return cfg, dict(model_args)


def shipped_folder(name: str) -> Path | None:
    """The model folder that comes with the package for a name, or None.

    Args:
        name: A model with a tag, as `psn_test_resnet.motion`.
    """
    folder = SHIPPED / name
    return folder if re.fullmatch(r"\w+\.\w+", name) and folder.is_dir() else None


def shipped_cfg(name: str) -> dict[str, Any]:
    """The cfg of weights that come with the package.

    Args:
        name: A model with a tag.
    """
    cfg, _, _ = load_model_config_from_path(SHIPPED / name)
    return dict(cfg)


def shipped_settings(name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a model whose weights come with the package: the saved ones, and those that replace them.

    Args:
        name: A model with a tag.
        kwargs: Arguments of the caller.
    """
    cfg, _, model_args = load_model_config_from_path(SHIPPED / name)
    return {**model_args, **kwargs, "pretrained_cfg": cfg, "pretrained_model_args": model_args}


def pin_weights(
    cfg: PretrainedCfg,
    overlay: dict[str, Any] | None = None,
    cache_dir: str | None = None,
    sha256: str | None = None,
) -> dict[str, Any]:
    """Checks the weights that a cfg names, downloading them if they are on the Hub.

    The sha256 to expect is `sha256`, else that in the `config.json` beside the weights, entry `weights`.

    Args:
        cfg: A resolved cfg that has weights.
        overlay: Entries of the cfg that the caller of `create_model` set; a pickle is accepted only if named there.
        cache_dir: timm's download folder.
        sha256: Checksum of the weights, as the manifest lists it.

    Returns:
        Entries that replace entries of the cfg: a model from the Hub is pinned to the commit that was checked.

    Raises:
        ValueError: The file is not the one that was published, or would be a pickle that nobody asked for.
        FileNotFoundError: A folder has no weights.
    """
    if cfg.source == "local-dir":
        _check_folder(Path(cfg.file or ""), sha256)
        return {}
    if cfg.source == "hf-hub" or (cfg.hf_hub_id and not (cfg.state_dict or cfg.file)):
        return _pin_hub(cfg, overlay or {}, cache_dir, sha256)
    return {}  # tensors in memory, or a file or an address that the caller has named


def weights_file(cfg: PretrainedCfg, cache_dir: str | None) -> Path | None:
    """The safetensors file that a pinned cfg names, or None for other weights.

    Args:
        cfg: A resolved cfg with what `pin_weights` has returned.
        cache_dir: timm's download folder.
    """
    if cfg.source == "local-dir":
        file = Path(cfg.file or "", WEIGHTS_NAME)
    elif cfg.hf_hub_id and cfg.hf_hub_filename and not (cfg.state_dict or cfg.file):
        repo, _, revision = cfg.hf_hub_id.partition("@")
        file = hub_file(repo, cfg.hf_hub_filename, revision or None, cache_dir)  # in the cache already
    else:
        return None
    return file if file.suffix == ".safetensors" and file.is_file() else None


def _check_folder(folder: Path, sha256: str | None) -> None:
    """Checks the weights of a model folder."""
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        pickles = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pth", ".pt"))
        if not pickles:
            raise FileNotFoundError(f"{folder} has no {WEIGHTS_NAME}; use a folder that training or timm saved")
        raise ValueError(
            f"{folder} has no {WEIGHTS_NAME}, but {', '.join(pickles)}. {_WHY_NO_PICKLES} "
            f"pretrained_cfg_overlay=dict(source='file', file='{folder / pickles[0]}')"
        )
    config = folder / "config.json"
    stated = _stated_sha256(read_saved_config(config)) if config.is_file() else None
    _check_sha256(weights, sha256 or stated, f"replace {weights}")


def _pin_hub(cfg: PretrainedCfg, overlay: dict[str, Any], cache_dir: str | None, sha256: str | None) -> dict[str, Any]:
    """Download the weights, check them, and say which commit they are of."""
    repo, _, revision = str(cfg.hf_hub_id).partition("@")
    filename = cfg.hf_hub_filename or WEIGHTS_NAME
    if not filename.endswith(".safetensors"):
        if overlay.get("hf_hub_filename") == filename:
            return {}  # asked for by name; timm reads it with weights_only=True
        raise ValueError(
            f"the config.json of {repo} names {filename} as its weights. {_WHY_NO_PICKLES} "
            f"pretrained_cfg_overlay=dict(hf_hub_filename='{filename}')"
        )

    commit: str | None = revision or None
    try:
        config, content = hub_config(str(cfg.hf_hub_id), cache_dir)
        commit, stated = config.parent.name, _stated_sha256(content)
    except NotOnHubError:
        stated = None
    try:
        weights = hub_file(repo, filename, commit, cache_dir)
    except NotOnHubError as error:
        raise ValueError(
            f"{repo} on the Hub has no {filename} at {commit or 'main'}. {_WHY_NO_PICKLES} "
            "pretrained_cfg_overlay=dict(hf_hub_filename='pytorch_model.bin'), or the file's name there"
        ) from error
    expected = sha256 or stated
    if expected is None:
        _logger.warning(f"{repo} states no sha256 of its weights: only the size of {filename} was checked")
    _check_sha256(weights, expected, f"delete {weights.resolve()} and load again: it will be downloaded again")
    commit = weights.parents[len(Path(filename).parts) - 1].name  # snapshots/<commit>/<filename>
    return {"hf_hub_id": f"{repo}@{commit}", "hf_hub_filename": filename}


_WHY_NO_PICKLES = (
    "Other weight files are pickles, which are loaded only if you name them. If you trust their author, name the file; "
    "it is read with weights_only=True:"
)


def _stated_sha256(config: dict[str, Any]) -> str | None:
    """What a published config.json says of its weights."""
    weights = config.get("weights")
    return weights.get("sha256") if isinstance(weights, dict) else None


def _check_sha256(path: Path, expected: str | None, remedy: str) -> None:
    """Raises if a file is not the one that is expected."""
    if expected is None:
        return
    found = file_sha256(path)
    if found != expected:
        raise ValueError(
            f"{path} is not the published file: its sha256 is {found}, expected {expected}. It is damaged or was "
            f"replaced, and was not loaded; {remedy}"
        )
