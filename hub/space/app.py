#!/usr/bin/env python
"""A page that says what a video shows: python hub/space/app.py --model best/, or with MODEL in the environment.

It is at once the app of a Space on the Hugging Face Hub, where MODEL is a variable of the Space.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported; it would report to its makers
import gradio as gr

from timm_video_psn.data import DecodeError, decode_clip
from timm_video_psn.engine.predict.predictor import Predictor

TOP = 5
KEEP_SEC = 3600  # how long uploads stay on the server
CAMERA = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}  # more than models see, and soon uploaded
SYSTEM_FONTS = {
    "font": ("ui-sans-serif", "system-ui", "sans-serif"),
    "font_mono": ("ui-monospace", "monospace"),
}
Pictures = list[tuple[np.ndarray, str]]  # and what is written below


@dataclass(frozen=True)
class Seen:
    """What the model makes of a video: shares by class, the frames that it saw, and where in them it looked."""

    shares: dict[str, float]
    frames: Pictures
    activation: Pictures


NOTHING = Seen({}, [], [])


def look(predictor: Predictor, path: Path, with_activation: bool) -> Seen:
    """Show a video to the model.

    Args:
        predictor: the model.
        path: the video file.
        with_activation: compute activation maps of the likeliest class, too.

    Raises:
        DecodeError: the video cannot be read.
    """
    indices: list[int] = []

    def choose(count: int) -> list[int]:
        indices.extend(predictor.frame_indices(count))
        return indices

    frames = predictor.prepare(decode_clip(path, choose))  # (T, S, S, 3)
    top = predictor.predict_clips(frames[None], TOP)[0]
    captions = [f"frame {index}" for index in indices]
    covered = _activation(predictor, frames) if with_activation else ()
    return Seen(
        {item.label: item.probability for item in top},
        list(zip(frames.numpy(), captions, strict=True)),
        list(zip(covered, captions, strict=True)) if with_activation else [],
    )


def has_activation_maps() -> bool:
    """Whether the installed package has them."""
    part = "timm_video_psn.insights"
    return all(importlib.util.find_spec(name) is not None for name in (part, f"{part}.activation_map"))


def _activation(predictor: Predictor, frames: torch.Tensor) -> np.ndarray:
    """The frames with the likeliest class's activation over them, (T, S, S, 3)."""
    from timm_video_psn.insights.activation_map import activation_map, overlay
    from timm_video_psn.insights.viewer import Footage

    found = activation_map(predictor.model, predictor.precision.clip(frames[None]))
    return overlay(Footage(frames, np.arange(len(frames)), len(frames), None), found)


def build_page(predictor: Predictor, source: str) -> gr.Blocks:
    """The page.

    Args:
        predictor: the model.
        source: what the model is called, for the heading.
    """
    with_activation = has_activation_maps()

    def answer(path: str | None) -> list[Any]:
        """One value for each output: what is wrong, the classes, the frames, and perhaps the maps."""
        seen, problem = NOTHING, ""
        try:
            seen = look(predictor, Path(path), with_activation) if path else NOTHING
        except DecodeError as error:
            problem = f"{Path(path).name} cannot be read as a video: {error.reason}"
        shown = [gr.update(value=problem, visible=bool(problem)), seen.shares or None, seen.frames]
        return [*shown, seen.activation] if with_activation else shown

    size, count = predictor.transform.img_size, predictor.model.num_frames
    is_folder = not source.startswith(("hf-hub:", "hf_hub:"))
    name = predictor.model.pretrained_cfg["architecture"] if is_folder else source  # paths of a server are its own
    with gr.Blocks(title="What does this video show?", analytics_enabled=False, delete_cache=(600, KEEP_SEC)) as page:
        gr.Markdown(
            "# What does this video show?\n"
            f"Upload or record a clip. The model (`{name}`, {len(predictor.label_names)} classes) looks at "
            f"{count} frames of it, {size} x {size} pixels from the middle of the picture."
        )
        with gr.Row():
            # With the sound, and as the camera sees it: gradio would need FFmpeg to change either, and mirrored
            # pictures turn "to the left" into "to the right".
            video = gr.Video(
                label="Video",
                sources=["upload", "webcam"],
                include_audio=True,
                webcam_options=gr.WebcamOptions(mirror=False, constraints=CAMERA),
                height=360,
                elem_id="video",
            )
            with gr.Column():
                problem = gr.Textbox(label="Problem", visible=False, interactive=False, elem_id="problem")
                shares = gr.Label(label=f"Top {TOP}", num_top_classes=TOP, elem_id="shares")
        outputs: list[Any] = [problem, shares]
        with gr.Tab("Frames that the model saw"):
            outputs.append(_gallery("Frames", "frames", count))
        if with_activation:
            with gr.Tab("Where it looked"):
                gr.Markdown("Warmer places speak more for the likeliest class (Grad-CAM of the last level).")
                outputs.append(_gallery("Class activation", "activation", count))
        video.change(answer, video, outputs, api_name="predict")
    return page


def _gallery(label: str, name: str, count: int) -> gr.Gallery:
    """A place for the pictures of a clip, as high as their rows."""
    columns = min(count, 8)
    return gr.Gallery(label=label, columns=columns, height="auto", object_fit="contain", format="png", elem_id=name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the app until it is interrupted.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code: 0, or 2 for an error.
    """
    parser = argparse.ArgumentParser(prog="app.py", description="A page that says what a video shows.")
    parser.add_argument("--model", default=os.environ.get("MODEL"), help="best/ of a run, or hf-hub:user/name")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    options = parser.parse_args(argv)
    if not options.model:
        parser.error("no model; give --model best/, or set MODEL to a folder or hf-hub:user/name")
    try:
        predictor = Predictor(options.model, options.device)
    except (ValueError, OSError) as error:
        print(f"app.py: error: {error}", file=sys.stderr)
        return 2
    build_page(predictor, options.model).launch(
        server_port=options.port,
        theme=gr.themes.Base(**SYSTEM_FONTS),  # the default theme's fonts are not of this machine
        footer_links=[],
        max_file_size="200mb",
        ssr_mode=False,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
