"""Which names have published video weights, and where: the manifest `zoo.json`, or a namespace of one's own.

With `TIMM_VIDEO_PSN_HUB=<user or organisation>` in the environment every name stands for the repository of that name
there; it is read whenever a model is created.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from timm.models import load_model_config_from_hf, split_model_name_tag

MANIFEST = Path(__file__).with_name("zoo.json")
NAMESPACE_VARIABLE = "TIMM_VIDEO_PSN_HUB"


class Published(NamedTuple):
    """Where the weights of a name are.

    `revision` is a commit and `sha256` that of `model.safetensors`. From one's own namespace it is the newest commit,
    and the sha256 is what the `config.json` there says.
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
        name: of a registered model.
        manifest: another than the package's.

    Raises:
        ValueError: the environment names no namespace, or the manifest's entry is not in its form.
    """
    entry = read_manifest(manifest).get(name)
    namespace = os.environ.get(NAMESPACE_VARIABLE)
    if namespace:
        if not re.fullmatch(r"[\w.-]+", namespace):
            raise ValueError(f"{NAMESPACE_VARIABLE}={namespace!r} is no user or organisation of the Hub; use one name")
        return Published(f"{namespace}/{entry.repo.partition('/')[2] if entry else name}")
    return entry


def read_manifest(manifest: Path | None = None) -> dict[str, Published | None]:
    """All names that stand for video weights; None are those that nobody has published.

    Args:
        manifest: another than the package's.

    Raises:
        ValueError: an entry is not in its form.
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
        name: the model that was asked for.
        published: where its weights are.
        cache_dir: where timm keeps what it downloads.

    Returns:
        The cfg, with the class names, and the arguments that the model was built with.

    Raises:
        ValueError: it is the config of another model.
    """
    cfg, architecture, model_args = load_model_config_from_hf(published.hub_id, cache_dir=cache_dir)
    if split_model_name_tag(architecture)[0] != name:
        raise ValueError(
            f"{published.hub_id} is a {split_model_name_tag(architecture)[0]}, but {name} was asked for; load it by "
            f"create_model('hf-hub:{published.hub_id}', pretrained=True)"
        )
    return cfg, dict(model_args)
