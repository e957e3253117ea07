"""Testing a trained model: all protocols over one decode of each video, each number with its protocol and interval."""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.models import is_model

from timm_video_psn.console import Progress
from timm_video_psn.data import (
    MultiViewDataset,
    ShardedIndex,
    UnreadableVideo,
    VideoIndex,
    VideoViews,
    check_class_names,
    check_decoder,
    create_loader,
    holds_shards,
    label_fingerprint,
    read_index,
)
from timm_video_psn.engine import distributed
from timm_video_psn.engine.cpu_memory import keep_freed_memory
from timm_video_psn.engine.evaluate.accuracy import measure
from timm_video_psn.engine.evaluate.intervals import ABOUT_INTERVALS
from timm_video_psn.engine.evaluate.report import result_lines
from timm_video_psn.engine.evaluate.result_files import Result, write_results
from timm_video_psn.engine.evaluate.scores import Scores, check_finite
from timm_video_psn.engine.load_model import load, load_from_checkpoint
from timm_video_psn.engine.model_source import full_path, is_on_hub
from timm_video_psn.engine.precision import find_device, resolve_device
from timm_video_psn.engine.protocol import Protocol, protocols_of
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.engine.view_scores import Floats, ViewScorer, fuse
from timm_video_psn.models.published_weights import shipped_folder
from timm_video_psn.version import package_versions

_logger = logging.getLogger(__name__)


class Validation:
    """A test of a model; of several processes, each tests its share of the videos, and the first reports.

    Args:
        options: See `command_line.validate`.

    Raises:
        ValueError: The model, the data and the protocols do not fit together.
        FileNotFoundError: The model or the data is not there.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        device = find_device(distributed.local_device(resolve_device(options.device)))
        if device.type == "cpu":
            keep_freed_memory()
        check_decoder(options.decoder)
        self.trained, self.index = _load(options, str(device))
        self.protocols = protocols_of(options, self.trained.protocol)
        _check_size(self.trained, self.protocols)
        amp_dtype = getattr(torch, options.amp_dtype) if options.amp else None
        precision = replace(self.trained.precision, amp_dtype=amp_dtype)
        self.scorer = ViewScorer(self.trained.model, precision, options.views_per_step)
        self.folder = Path(options.output) if options.output else _default_folder(options, self.trained, self._dataset)
        self.unreadable: list[UnreadableVideo] = []
        self.num_short = 0

    @property
    def _dataset(self) -> str:
        """The name of the data set, also of one that was packed into shards."""
        if isinstance(self.index, ShardedIndex):
            return self.index.dataset
        return str(self.options.dataset or self.trained.dataset)

    def run(self) -> list[Result]:
        """Tests, reports and writes.

        Returns:
            The result of each protocol; none in processes but the first.

        Raises:
            ValueError: No video could be read, or too few.
        """
        self._introduce()
        scores = self.scores()
        if not distributed.is_first():
            return []
        results = [self._result(*pair) for pair in zip(self.protocols, scores, strict=True)]
        self._tell_of_views(len(scores[0]))
        for result in results:
            for line in result_lines(result):
                _logger.info(line)
        if (self.folder / "results.json").exists():
            _logger.info(f"replaced  results.json of an earlier test in {self.folder}; --output names another folder")
        write_results(self.folder, results, self._about(), self.unreadable)
        _logger.info(f"written   {self.folder}")
        return results

    def scores(self) -> list[Scores]:
        """The scores of each protocol, over the videos that can be read."""
        options, protocols = self.options, self.protocols
        plans = [protocol.plan for protocol in protocols]
        dataset = MultiViewDataset(self.index, plans, self.trained.interpolation, options.decoder)
        # Videos of many views come one by one, so that a batch of them stays as small as one of few.
        videos = max(1, self.scorer.views_per_step // sum(protocol.num_views for protocol in protocols))
        rank, world_size = distributed.rank(), distributed.world_size()
        loader = create_loader(dataset, videos, False, options.workers, rank=rank, world_size=world_size)
        rows: dict[int, list[Floats]] = {}  # by video, the scores of each protocol
        longest = max(plan.num_frames for plan in plans)
        with Progress(loader, f"{self._dataset} {options.split}", len(loader)) as batches:
            for batch in batches:
                self._note_unreadable(batch.unreadable)
                self.num_short += sum(video.num_frames < longest for video in batch.videos)
                for video, logits in zip(batch.videos, self.scorer.logits(batch.videos), strict=True):
                    rows[video.index] = _fused(video, logits, protocols, self.trained.activation)
        rows = self._gather(rows)
        if not rows:
            reasons = "; ".join(map(str, self.unreadable[:3]))
            raise ValueError(f"none of the {len(self.index)} videos of {options.split} could be read: {reasons}")
        numbers = np.array(sorted(rows))
        names = _names(self.index, numbers)
        return [
            Scores(
                np.stack([rows[number][place] for number in numbers.tolist()]),
                self.index.labels[numbers],
                names,
                self.index.class_names,
                str(protocol),
                protocol.fusion,
                len(self.index),
                self.index.version,
                None if self.index.label_sets is None else self.index.targets(numbers.tolist()),
                self.trained.activation,
            )
            for place, protocol in enumerate(protocols)
        ]

    def _gather(self, rows: dict[int, list[Floats]]) -> dict[int, list[Floats]]:
        """The scores of all processes, in each; what they count is added up, too."""
        parts = distributed.gather((rows, self.unreadable, self.num_short, self.scorer.views_seen))
        self.unreadable = sorted((item for part in parts for item in part[1]), key=lambda item: item.index)
        self.num_short = sum(part[2] for part in parts)
        self.scorer.views_seen = sum(part[3] for part in parts)
        self._check_unreadable()
        return {number: scores for part in parts for number, scores in part[0].items()}

    def _note_unreadable(self, unreadable: Sequence[UnreadableVideo]) -> None:
        """Name each video that cannot be read, and stop where they are too many."""
        for item in unreadable:
            _logger.warning("not tested: %s (%s)", item.path, item.reason)
        self.unreadable += unreadable
        self._check_unreadable()

    def _check_unreadable(self) -> None:
        """Raises where too many videos cannot be read."""
        if len(self.unreadable) > self.options.max_unreadable * len(self.index):
            last = "; ".join(f"{item.path}: {item.reason}" for item in self.unreadable[-3:])
            raise ValueError(
                f"{len(self.unreadable)} of {len(self.index)} videos could not be decoded, more than --max-unreadable "
                f"{self.options.max_unreadable:g} allows; the last: {last}. Repair or remove them, or raise that share"
            )

    def _result(self, protocol: Protocol, scores: Scores) -> Result:
        check_finite(scores)
        accuracy = measure(scores, self.index.reversal_pairs) if scores.labelled else None
        return Result(scores, accuracy, protocol.slug, asdict(protocol))

    def _introduce(self) -> None:
        """Says what is about to happen."""
        say, index, trained = _logger.info, self.index, self.trained
        version = f" ({index.version})" if index.version else ""
        say(f"model     {trained.source}")
        say(f"device    {self.scorer.precision}")
        say(
            f"data      {self._dataset}{version} {self.options.split}: {len(index)} videos of "
            f"{len(index.class_names)} classes"
        )
        notes = list(index.notes)
        if index.shared_split and self.options.split == "val":
            notes.append("no train/ and val/ folders: the model may have been trained on these videos")
        if trained.dataset_version != index.version and trained.dataset in (None, self._dataset):
            notes.append(f"the model was trained on annotations {trained.dataset_version or 'of no stated version'}")
        for note in dict.fromkeys(notes):
            say(f"          {note}")
        for protocol in self.protocols:
            own = ", the model's own" if protocol == trained.protocol else ""
            say(f"protocol  {protocol}, clips x crops = {protocol.num_views}{own}")

    def _tell_of_views(self, videos: int) -> None:
        """Says what coincided, and which videos were too short."""
        wanted = videos * sum(protocol.num_views for protocol in self.protocols)
        if self.scorer.views_seen < wanted:
            _logger.info(f"views     {self.scorer.views_seen} different ones of {wanted}; each was run once")
        if self.num_short:
            _logger.warning("%d of %d videos have fewer frames than a clip: some are repeated", self.num_short, videos)
        if self.unreadable:
            _logger.warning("%d of %d videos were not tested: see skipped.csv", len(self.unreadable), len(self.index))

    def _about(self) -> dict[str, Any]:
        """What the numbers are of."""
        options, trained, precision = self.options, self.trained, self.scorer.precision
        return {
            "model": trained.source,
            "weights_sha256": trained.weights_sha256,
            "dataset": self._dataset,
            "dataset_version": self.index.version,
            "split": options.split,
            "num_videos": len(self.index) - len(self.unreadable),
            "num_expected": len(self.index),
            "num_classes": len(self.index.class_names),
            "label_fingerprint": label_fingerprint(self.index.class_names),
            "preprocessing": {
                "mean": precision.mean,
                "std": precision.std,
                "interpolation": trained.interpolation,
            },
            "numbers": precision.numbers,
            "device": precision.device.type,
            "intervals": ABOUT_INTERVALS,
            "versions": package_versions(),
        }


def validate(options: argparse.Namespace) -> list[Result]:
    """Tests a model as the options say.

    Args:
        options: See `command_line.validate`.

    Returns:
        The result of each protocol; of several processes, in the first alone.

    Raises:
        OtherProcessFailed: Another process of the run has failed.
    """
    with distributed.process_group(resolve_device(options.device)):
        return Validation(options).run()


def _load(options: argparse.Namespace, device: str) -> tuple[TrainedModel, VideoIndex]:
    """The model and the videos, of the same classes."""
    given = options.model or ""
    is_name = is_model(given.partition(".")[0]) and shipped_folder(given) is None
    if not options.checkpoint and is_name and not Path(given).exists():
        raise ValueError(
            f"--model {given} is the name of a model without trained weights; add --checkpoint FILE, or give the "
            "folder of a run or hf-hub:user/name"
        )
    if not options.checkpoint:
        trained = load(given, device)
    else:
        classes = _read_index(options, options.dataset).class_names if options.dataset else ()
        trained = load_from_checkpoint(options.model, Path(options.checkpoint), classes, device)
    packed = trained.dataset and options.data_dir and holds_shards(options.data_dir)
    index = _read_index(options, options.dataset or ("shards" if packed else trained.dataset))
    if trained.label_names:
        check_class_names(trained.label_names, index.class_names, f"the model {trained.source}", "the data")
    elif len(index.class_names) != trained.model.num_classes:
        raise ValueError(
            f"{trained.source} has {trained.model.num_classes} classes and does not name them; the data has "
            f"{len(index.class_names)}"
        )
    if index.label_sets is not None and trained.activation == "softmax":
        raise ValueError(
            f"the data has videos of several classes, and {trained.source} was trained to choose one (--loss ce); test "
            "a model that --loss bce has trained"
        )
    if not len(index):
        raise ValueError(f"the split {options.split} of {options.dataset or trained.dataset} has no videos")
    return trained, index


def _read_index(options: argparse.Namespace, dataset: str | None) -> VideoIndex:
    """The videos of the split."""
    if dataset is None:
        raise ValueError("the model does not say what it was trained on; name the data set, with --dataset NAME")
    files = {options.split: options.list} if options.list else {}
    index = read_index(dataset, options.data_dir, options.split, files)  # of shards it may be a URL
    return replace(index, max_pixels=options.max_pixels)


def _check_size(trained: TrainedModel, protocols: Sequence[Protocol]) -> None:
    """Raises for a size that the model cannot take."""
    cfg = trained.model.pretrained_cfg
    own = cfg["input_size"][-1]
    wrong = [str(protocol) for protocol in protocols if protocol.img_size != own]
    if cfg.get("fixed_input_size") and wrong:
        raise ValueError(f"{trained.source} takes {own} pixels only; asked for: {', '.join(wrong)}")


def _default_folder(options: argparse.Namespace, trained: TrainedModel, dataset: str) -> Path:
    """Beside the model; in output/ for a model of the Hub."""
    name = f"validate-{dataset}-{options.split}"
    source = str(options.checkpoint or trained.source)
    if is_on_hub(source) or not Path(source).exists():
        return Path("output") / f"{source.rpartition(':')[2].replace('/', '-').replace('@', '-')}-{name}"
    return full_path(source).parent / name


def _fused(video: VideoViews, logits: Floats, protocols: Sequence[Protocol], activation: str) -> list[Floats]:
    """The scores of a video in each protocol, from the logits of its different views."""
    pairs = zip(protocols, video.plans, strict=True)
    return [fuse(logits[views], protocol.fusion, activation) for protocol, views in pairs]


def _names(index: VideoIndex, numbers: np.ndarray) -> tuple[str, ...]:
    """Paths of the videos; parts of one file, which share a path, are counted: `a.mp4#2` is the second."""
    seen: Counter[str] = Counter()
    names = []
    for number in range(len(index)):
        path = index.paths[number]
        seen[path] += 1
        names.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return tuple(names[number] for number in numbers.tolist())
