"""The videos that a model was validated on, found by what its run left."""

from pathlib import Path
from typing import Any

import yaml

from timm_video_psn.data import VideoIndex, check_class_names, read_index
from timm_video_psn.engine.model_source import file_of_run, read_config
from timm_video_psn.engine.trained_model import TrainedModel


def read_run_index(
    model: TrainedModel, dataset: str | None = None, data_dir: str | Path | None = None, split: str = "val"
) -> tuple[str, VideoIndex]:
    """The videos of a data set that a model knows the classes of, by default those that its run was validated on.

    Args:
        model: The trained model.
        dataset: Name of the data set; None for the run's own, or the one that the model's config names.
        data_dir: Folder of the data set; None for the folder where the run found it.
        split: Split of the data set.

    Returns:
        The name of the data set, and its videos.

    Raises:
        ValueError: The model does not say what it was trained on, the data set is unknown or has other classes.
        FileNotFoundError: It is not there.
    """
    own = _data_options(model)
    if dataset in (None, own["dataset"]):
        dataset, data_dir = own["dataset"], data_dir or own.get("data_dir")
    else:
        own = {}
    if dataset is None:
        raise ValueError(f"{model.source} does not record its data set; name it with --dataset NAME")
    lists = {part: own[f"{part}_list"] for part in ("train", "val", "test") if own.get(f"{part}_list")}
    index = read_index(dataset, data_dir, split, lists or None)  # classes may be named by training's list alone
    check_class_names(model.label_names, index.class_names, model.source, f"data set {dataset!r}")
    return dataset, index


def _data_options(model: TrainedModel) -> dict[str, Any]:
    """What training was told of its data; where no run is left, the name in config.json."""
    kept = file_of_run(model.source, "args.yaml")
    if kept is None:
        return {"dataset": read_config(model.source, model.model).get("dataset")}
    try:
        options = yaml.safe_load(kept.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{kept} is damaged ({reason}); delete it, and give --dataset NAME") from error
    return {"dataset": None, **(options if isinstance(options, dict) else {})}
