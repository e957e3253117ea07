"""The model card: what a stranger must know to use a model, with the protocol beside each number."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from timm.models import split_model_name_tag

TEMPLATE = Path(__file__).with_name("card_template.md")
TASK = "video-classification"

# by the name of `--dataset`: what the Hub's metadata calls it, its title
DATASETS = {
    "motion": ("motion", "motion, drawn by timm_video_psn"),
    "sthv1": ("something-something-v1", "Something-Something V1"),
    "sthv2": ("something-something-v2", "Something-Something V2"),
    "k400": ("kinetics-400", "Kinetics-400"),
    "diving48": ("diving48", "Diving48"),
}
METRICS = {  # of summary.csv, as the card names them
    "val_top1": "top-1",
    "val_top5": "top-5",
    "val_pair_top1": "top-1 within pairs of reversed classes",
}
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # as the Hub abbreviates them: apache-2.0, cc-by-nc-4.0, other


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Args:
        repo_id: `user/name` on the Hub.
        config: the published config.json.
        parameters: how many the model has.
        multiply_adds: of convolutions and linear layers, for one clip.
        clip_shape: of that clip, (1, C, T, H, W).
        backbone_weights: the Hub's name of the image weights that the backbone could start from.
        license_id: of the weights, None if none is stated.
        files: names of the published files.
    """

    repo_id: str
    config: dict[str, Any]
    parameters: int
    multiply_adds: int
    clip_shape: tuple[int, ...]
    backbone_weights: str | None
    license_id: str | None
    files: tuple[str, ...]

    @property
    def architecture(self) -> str:
        """The model's name in timm's registry."""
        return split_model_name_tag(self.config["architecture"])[0]

    @property
    def dataset(self) -> tuple[str, str]:
        """What the Hub calls the data set, and its title with the version, if it has one."""
        name = str(self.config.get("dataset", "unknown"))
        short, title = DATASETS.get(name, ("own-videos", "videos of the publisher's own"))
        version = self.config.get("dataset_version")
        return short, f"{title} {version}" if version and str(version) not in title else title

    @property
    def base_model(self) -> str | None:
        """The weights that training started from, as far as the recipe says."""
        recipe = self.config.get("recipe") or {}
        model = str(recipe.get("model", ""))
        if model.startswith("hf-hub:"):
            return model.removeprefix("hf-hub:").partition("@")[0]
        if recipe.get("pretrained") or (recipe.get("model_kwargs") or {}).get("backbone_pretrained"):
            return self.backbone_weights
        return None

    @property
    def protocol(self) -> str:
        """How the videos were looked at to get the numbers."""
        metrics, video = self.config.get("metrics") or {}, self.config.get("video") or {}
        return str(metrics.get("protocol") or video.get("protocol") or "protocol not recorded")

    @property
    def results(self) -> list[tuple[str, float]]:
        """Names and values of the metrics that were recorded."""
        metrics = self.config.get("metrics") or {}
        known = [(name, metrics.get(key)) for key, name in METRICS.items()]
        return [(name, round(value, 2)) for name, value in known if isinstance(value, (int, float))]


def write_card(facts: CardFacts, path: Path) -> None:
    """Write the card, and check it.

    Args:
        facts: what it says.
        path: the README.md.

    Raises:
        ValueError: its metadata are not what the Hub accepts.
    """
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        pipeline_tag=TASK,
        library_name="timm",
        license=facts.license_id,
        base_model=facts.base_model,
        datasets=[facts.dataset[0]] if facts.config.get("dataset") in DATASETS else None,
        metrics=["accuracy"] if facts.results else None,
        model_name=facts.repo_id.partition("/")[2],
        eval_results=_eval_results(facts) or None,
        tags=["timm", TASK, "timm_video_psn", facts.architecture],
    )
    video = facts.config.get("video") or {}
    metrics = facts.config.get("metrics") or {}
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        facts=facts,
        num_frames=facts.clip_shape[2],
        num_classes=facts.config.get("num_classes"),
        sampling=video.get("sampling", "not recorded"),
        videos=_counted_videos(metrics),
        recipe=yaml.safe_dump(facts.config["recipe"], sort_keys=False) if facts.config.get("recipe") else None,
        versions=", ".join(f"{name} {version}" for name, version in (facts.config.get("versions") or {}).items()),
    )
    card.save(path)
    check_card(path)


def check_card(path: Path) -> None:
    """Check a card's metadata as far as that is possible without the Hub.

    Args:
        path: the README.md.

    Raises:
        ValueError: what is wrong with it.
    """
    from huggingface_hub import ModelCard

    data = ModelCard.load(path).data  # raises for metadata that are not a dict, and for a malformed model-index
    wrong = []
    if data.pipeline_tag != TASK or data.library_name != "timm":
        wrong.append(f"pipeline_tag={data.pipeline_tag!r}, library_name={data.library_name!r}; use {TASK!r}, 'timm'")
    if data.license is not None and not LICENSE.fullmatch(data.license):
        wrong.append(f"license={data.license!r}; use the Hub's abbreviation, such as apache-2.0 or cc-by-nc-4.0")
    for result in data.eval_results or []:
        if not isinstance(result.metric_value, (int, float)):
            wrong.append(f"{result.metric_name} is {result.metric_value!r}, no number")
    if wrong:
        raise ValueError(f"{path} has metadata that the Hub does not accept: {'; '.join(wrong)}")


def _eval_results(facts: CardFacts) -> list[Any]:
    """The model-index; the protocol is part of each metric's name."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASK,
            dataset_type=facts.dataset[0],
            dataset_name=facts.dataset[1],
            dataset_split="validation",
            metric_type="accuracy",
            metric_name=f"{name}, % ({facts.protocol})",
            metric_value=value,
        )
        for name, value in facts.results
    ]


def _counted_videos(metrics: dict[str, Any]) -> str | None:
    """How many videos a number is of."""
    found, expected = metrics.get("val_videos"), metrics.get("val_expected")
    return f"{found} of {expected}" if found and expected else None
