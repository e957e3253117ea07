"""The numbers of a card: what training measured, and what tests of other protocols did."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from timm_video_psn.data import label_fingerprint

# by the name of `--dataset`: what the Hub's metadata calls it, its title
DATASETS = {
    "motion": ("motion", "motion, drawn by timm_video_psn"),
    "sthv1": ("something-something-v1", "Something-Something V1"),
    "sthv2": ("something-something-v2", "Something-Something V2"),
    "k400": ("kinetics-400", "Kinetics-400"),
    "diving48": ("diving48", "Diving48"),
}
OWN = ("folder", "list")  # whose videos are whoever's; other names are those that `convert` was given
METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class": "mean of the classes' top-1",
    "pair_top1": "top-1 within pairs of reversed classes",
    "map": "mean average precision (mAP)",
}


class Dataset(NamedTuple):
    """What the Hub calls a data set, and its title with the version, if it has one."""

    short: str
    title: str


class Measured(NamedTuple):
    """A percentage and all that it needs to mean something; `interval` has 95 % bounds."""

    metric: str
    value: float
    interval: tuple[float, float] | None
    protocol: str
    dataset: Dataset
    split: str
    videos: str
    by: str


def dataset_of(entries: dict[str, Any]) -> Dataset:
    """The data set that a config.json or a results.json names.

    Args:
        entries: Contents of the file.
    """
    name = entries.get("dataset")
    own = name is None or name in OWN
    named = ("own-videos", "videos of the publisher's own") if own else (str(name), str(name))
    short, title = DATASETS.get(str(name), named)
    version = entries.get("dataset_version")
    return Dataset(short, f"{title} {version}" if version and str(version) not in title else title)


def read_results(path: Path, class_names: list[str], weights_sha256: str) -> list[dict[str, Any]]:
    """The tests in a `results.json` of a validation, without the places of the machine.

    Args:
        path: The file.
        class_names: Names of the model, in label order.
        weights_sha256: Checksum of the model's file of weights.

    Raises:
        ValueError: It is no such file, or of other classes or other weights than the model's.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if "ensemble" in about:
            raise ValueError(f"{path} is the result of an ensemble; use the results.json of a test of this model")
        fingerprint, tests = about["label_fingerprint"], about["results"]
        shared = {key: about[key] for key in ("dataset", "dataset_version", "split")}
        wanted = ("protocol", "num_videos", "num_expected", "metrics")
        found = [{**shared, **{key: test[key] for key in wanted}} for test in tests]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a results.json of timm-video-psn validate: {error!r}") from error
    if fingerprint != label_fingerprint(class_names):
        raise ValueError(f"the classes of {path}, or their order, differ from the model's label_names")
    tested = about.get("weights_sha256")
    if tested and tested != weights_sha256:
        raise ValueError(f"{path} is the result of other weights; test this model, and use its results.json")
    return found


def measured(config: dict[str, Any]) -> list[Measured]:
    """All numbers of a published config.json, first the numbers of the training.

    Args:
        config: Config with the `metrics` of training and the `results` of tests.
    """
    metrics, video, dataset = config.get("metrics") or {}, config.get("video") or {}, dataset_of(config)
    protocol = str(metrics.get("protocol") or video.get("protocol") or "not recorded")
    split = str(metrics.get("val_split", "val"))
    counts = [metrics.get(key, "?") for key in ("val_videos", "val_expected")]
    rows = [
        Measured(name, metrics[key], None, protocol, dataset, split, "{} of {}".format(*counts), "timm-video-psn train")
        for key, name in ((f"val_{key}", name) for key, name in METRICS.items())
        if isinstance(metrics.get(key), (int, float))
    ]
    for test in config.get("results") or []:
        videos = f"{test['num_videos']} of {test['num_expected']}"
        for key, name in METRICS.items():
            if key in test["metrics"]:
                item = test["metrics"][key]
                where = (test["protocol"], dataset_of(test), test["split"], videos, "timm-video-psn validate")
                interval = None if item["low"] is None else (item["low"], item["high"])
                rows.append(Measured(name, item["value"], interval, *where))
    return rows
