"""Name what a video shows, with a model folder that carries its own preprocessing and class names."""

from dataclasses import dataclass
from pathlib import Path

import torch

from timm_video_psn.data import SAMPLINGS, EvalTransform, decode_clip
from timm_video_psn.data.sampling import segment_indices
from timm_video_psn.engine.build import check_device
from timm_video_psn.engine.data_report import warn_of_repeats
from timm_video_psn.engine.model_folder import load_model, read_config
from timm_video_psn.engine.precision import Precision


@dataclass(frozen=True)
class Prediction:
    """A class and its probability."""

    label: str
    probability: float


class Predictor:
    """A trained model and what it needs to look at a video as its validation did.

    Args:
        source: a folder with `config.json` and `model.safetensors`, as `best/` of a run, or `hf-hub:user/name`.
        device: where it runs.

    Raises:
        FileNotFoundError: the folder is not there, or no model folder.
        ValueError: the model is no video model, names no classes, or its files do not fit each other.

    Example:
        >>> predictor = Predictor("output/psn_test_resnet-motion/best")  # doctest: +SKIP
        >>> predictor.predict("clip.mp4")[0].label  # doctest: +SKIP
        'slide_left'
    """

    def __init__(self, source: str, device: str = "cpu"):
        place = check_device(device)
        self.model = load_model(source).to(place).to(memory_format=torch.channels_last).eval()
        cfg = self.model.pretrained_cfg
        if not cfg.get("label_names"):
            raise ValueError(
                f"{source} names no classes: its config.json lacks label_names; use a folder that training made"
            )
        self.label_names: tuple[str, ...] = tuple(cfg["label_names"])
        self.precision = Precision(place, tuple(cfg["mean"]), tuple(cfg["std"]))
        self.transform = EvalTransform(cfg["input_size"][-1], cfg["crop_pct"], cfg["interpolation"])
        sampling = read_config(source).get("video", {}).get("sampling", "segments")
        # configs of before there was a choice describe segments in words
        self.sampling = SAMPLINGS.get(sampling, segment_indices)

    @torch.inference_mode()
    def predict(self, path: str | Path, top: int = 5) -> list[Prediction]:
        """The most likely classes of one video, most likely first.

        Args:
            path: video file, or folder of frame images.
            top: how many; fewer where there are fewer classes.

        Raises:
            DecodeError: the video cannot be read.
        """
        if top < 1:
            raise ValueError(f"top={top} classes asked for; use 1 or more")
        frames = decode_clip(Path(path), lambda count: self._choose(path, count))
        clip = self.precision.clip(self.transform(torch.from_numpy(frames))[None])
        probabilities = self.model(clip).float().softmax(1)[0].cpu()
        values, indices = probabilities.topk(min(top, len(probabilities)))
        return [
            Prediction(self.label_names[index], value)
            for index, value in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    def _choose(self, path: str | Path, count: int) -> list[int]:
        """The frames that validation took."""
        if count < self.model.num_frames:
            warn_of_repeats(str(path), count, self.model.num_frames)
        return self.sampling(count, self.model.num_frames, None).tolist()
