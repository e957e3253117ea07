"""The model card: what a stranger must know to use a model, with the protocol beside each number."""

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from timm.models import split_model_name_tag

from timm_video_psn.console import printable
from timm_video_psn.models.published_weights import find_published, read_manifest
from timm_video_psn.publish.results import DATASETS, Dataset, Measured, dataset_of, measured

TEMPLATE = Path(__file__).with_name("card_template.md")
TASK = "video-classification"

_REPOSITORY, _PAGE = re.compile(r"[\w.-]+/[\w.-]+"), re.compile(r"https://[\w.-]+(?:/[\w.-]+)*/?")
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # as the Hub abbreviates them: apache-2.0, cc-by-nc-4.0, other


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Args:
        repo_id: `user/name` on the Hub.
        config: The published config.json.
        parameters: Number of parameters.
        multiply_adds: Multiply-adds of convolutions and linear layers, for one clip.
        clip_shape: Shape of that clip, (1, C, T, H, W).
        backbone_weights: The Hub's name of the image weights that the backbone could start from.
        license_id: Licence of the weights, None if none is stated.
        files: Names of the published files.
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
    def dataset(self) -> Dataset:
        """What it was trained on."""
        return dataset_of(self.config)

    @property
    def base_model(self) -> str | None:
        """The repository of the weights that training started from, as far as the recipe says."""
        recipe = self.config.get("recipe") or {}
        model = str(recipe.get("model", ""))
        if recipe.get("initial_checkpoint") or recipe.get("backbone_checkpoint"):
            return None
        if (recipe.get("model_kwargs") or {}).get("backbone_pretrained"):
            return self.backbone_weights
        if not recipe.get("pretrained") or model.startswith("local-dir:"):
            return None
        if model.startswith(("hf-hub:", "hf_hub:")):
            repository = model.partition(":")[2].partition("@")[0]
            return repository if _REPOSITORY.fullmatch(repository) else None
        if self.architecture in read_manifest():  # a name that stands for video weights
            published = find_published(self.architecture)
            return published.repo if published else None
        return self.backbone_weights

    @property
    def started_from(self) -> str:
        """The same for the reader."""
        if self.base_model:
            return f"[{self.base_model}](https://huggingface.co/{self.base_model})"
        if not self.config.get("recipe"):
            return "not recorded"
        recipe = self.config["recipe"]
        given = any(recipe.get(key) for key in ("pretrained", "initial_checkpoint", "backbone_checkpoint"))
        return "weights that are not on the Hub" if given else "random weights"

    @property
    def temporal(self) -> str:
        """The kind of temporal module, which decides whose paper to cite: psn, tsm, gst, ..."""
        stated = (self.config.get("model_args") or {}).get("temporal")
        return str(stated or self.architecture.partition("_")[0])

    @property
    def results(self) -> list[Measured]:
        """All numbers."""
        return measured(self.config)


def write_card(facts: CardFacts, path: Path) -> None:
    """Writes the card, and checks it.

    Args:
        facts: Contents of the card.
        path: The README.md.

    Raises:
        ValueError: Its metadata are not what the Hub accepts.
    """
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        pipeline_tag=TASK,
        library_name="timm",
        license=facts.license_id,
        base_model=facts.base_model,
        datasets=[facts.dataset.short] if facts.config.get("dataset") in DATASETS else None,
        metrics=["accuracy"] if facts.results else None,
        model_name=facts.repo_id.partition("/")[2],
        eval_results=_eval_results(facts) or None,
        tags=["timm", TASK, "timm_video_psn", facts.architecture],
    )
    video = facts.config.get("video") or {}
    recipe = yaml.safe_dump(facts.config["recipe"], sort_keys=False) if facts.config.get("recipe") else None
    runs = re.findall("`+", recipe or "")  # a longer fence holds them all
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        facts=facts,
        origin=facts.config.get("converted_from"),
        num_frames=facts.clip_shape[2],
        num_classes=facts.config.get("num_classes"),
        sampling=video.get("sampling", "not recorded"),
        recipe=recipe,
        fence="`" * max(3, *(len(run) + 1 for run in runs), 0),
        text=as_text,
        code=_as_code,
        link=_as_link,
        versions=", ".join(f"{name} {version}" for name, version in (facts.config.get("versions") or {}).items()),
    )
    card.save(path)
    check_card(path)


def as_text(content: Any) -> str:
    """Returns text of strangers as Markdown that shows it and does nothing else: no markup, link, picture or cell.

    Args:
        content: Text, or what has one.
    """
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(printable(str(content)), quote=False))


def _as_code(content: Any) -> str:
    """The same in the font of code, where only backticks and the borders of a table's cells mean something."""
    return "`{}`".format(printable(str(content)).replace("`", "'").replace("|", r"\|"))


def _as_link(address: Any) -> str:
    """A link to a web page; anything else as text."""
    address = str(address)
    return f"[{address.removeprefix('https://')}]({address})" if _PAGE.fullmatch(address) else as_text(address)


def check_card(path: Path) -> None:
    """Checks a card's metadata as far as that is possible without the Hub.

    Args:
        path: The README.md.

    Raises:
        ValueError: What is wrong with it.
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
    """The model-index, the protocol part of each metric's name; a test's number stands for training's of the same."""
    from huggingface_hub import EvalResult

    rows = {(row.dataset, row.split, row.metric, row.protocol): row for row in facts.results}  # tests come last
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=row.dataset.short,
            dataset_name=row.dataset.title,
            dataset_split={"val": "validation"}.get(row.split, row.split),
            metric_type="accuracy",
            metric_name=f"{row.metric}, % ({row.protocol})",
            metric_value=round(row.value, 2),
        )
        for row in rows.values()
    ]
