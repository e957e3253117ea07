#!/usr/bin/env python
"""A page that says what a video shows: python hub/space/app.py --model best/, or with MODEL in the environment.

It is at once the app of a Space on the Hugging Face Hub, where MODEL is a variable of the Space.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported; it would report to its makers
import gradio as gr

from timm_video_psn.console import MODEL_SOURCES, run_command
from timm_video_psn.data import DecodeError
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.model_source import is_on_hub
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.insights.activation_map import activation_map, overlay

TOP = 5
KEEP_SEC = 3600  # how long uploads stay on the server
CAMERA = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}  # more than models see, and soon uploaded
SYSTEM_FONTS = {
    "font": ("ui-sans-serif", "system-ui", "sans-serif"),
    "font_mono": ("ui-monospace", "monospace"),
}
EXAMPLES = Path(__file__).parent / "examples"  # clips to try
CSS = """
#frames, #frames *, #activation, #activation * { max-height: none }
#frames .grid-wrap, #activation .grid-wrap { height: auto; min-height: 0; overflow: visible; padding-top: 36px }
#frames, #activation { height: auto !important; min-height: 0 !important; overflow: visible !important }
"""  # galleries as high as their pictures, whose label covers none of them
Pictures = list[tuple[np.ndarray, str]]  # and what is written below


@dataclass(frozen=True)
class Seen:
    """What the model makes of a video: shares by class, the frames that it saw, and where in them it looked."""

    shares: dict[str, float]
    frames: Pictures
    activation: Pictures


NOTHING = Seen({}, [], [])


def look(model: TrainedModel, path: Path) -> Seen:
    """Shows a video to the model.

    Args:
        model: the model.
        path: the video file.

    Raises:
        DecodeError: the video cannot be read.
    """
    clip = model.read(path)
    (top,) = model.predict_clips(clip.frames[None], TOP)
    captions = [f"frame {index}" for index in clip.indices]
    covered = overlay(clip, activation_map(model.model, model.precision.clip(clip.frames[None])))
    return Seen(
        {item.label: item.probability for item in top},
        list(zip(clip.frames.numpy(), captions, strict=True)),
        list(zip(covered, captions, strict=True)),
    )


def build_page(model: TrainedModel, source: str) -> gr.Blocks:
    """The page.

    Args:
        model: the model.
        source: name of the model, for the heading.
    """

    def answer(path: str | None) -> list[Any]:
        """One value for each output: what is wrong, the classes, the frames, and the maps."""
        seen, problem = NOTHING, ""
        try:
            seen = look(model, Path(path)) if path else NOTHING
        except DecodeError as error:
            problem = f"{Path(path).name} cannot be read as a video: {error.reason}"
        told = gr.update(value=problem, visible=bool(problem))
        return [told, seen.shares or None, seen.frames, seen.activation]

    size, count = model.transform.img_size, model.protocol.num_frames
    is_folder = not is_on_hub(source)
    name = model.model.pretrained_cfg["architecture"] if is_folder else source  # paths of a server are its own
    with gr.Blocks(title="What does this video show?", analytics_enabled=False, delete_cache=(600, KEEP_SEC)) as page:
        gr.Markdown(
            "# What does this video show?\n"
            f"Upload or record a clip. The model (`{name}`, {len(model.label_names)} classes) looks at "
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
        if examples := sorted(map(str, EXAMPLES.glob("*.mp4"))):
            gr.Examples([[path] for path in examples], video, elem_id="examples", cache_examples=False)
        outputs: list[Any] = [problem, shares]
        with gr.Tab("Frames that the model saw"):
            outputs.append(_gallery("Frames", "frames", count))
        with gr.Tab("Where it looked"):
            gr.Markdown("Warmer places speak more for the most likely class (Grad-CAM of the last level).")
            outputs.append(_gallery("Class activation", "activation", count))
        video.change(answer, video, outputs, api_name="predict")
    return page


def _gallery(label: str, name: str, count: int) -> gr.Gallery:
    """A place for the pictures of a clip, as high as their rows."""
    columns = min(count, 8)
    return gr.Gallery(label=label, columns=columns, height="auto", object_fit="contain", format="png", elem_id=name)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the app until it is interrupted.

    Args:
        argv: arguments; None for the arguments of the process.

    Returns:
        The exit code: 0, or 2 for an error.
    """
    parser = argparse.ArgumentParser(prog="app.py", description="A page that says what a video shows.")
    parser.add_argument(
        "--model",
        default=os.environ.get("MODEL"),
        help=f"{MODEL_SOURCES}; the variable MODEL of the environment says the same",
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, ...; auto is the GPU where there is one (default: auto)"
    )
    parser.add_argument("--port", type=int, help="port of the page (default: the first free one from 7860 on)")
    options = parser.parse_args(argv)
    if not options.model:
        parser.error("no model; give --model best/, or set MODEL to a folder or hf-hub:user/name")

    def run() -> None:
        model = load(options.model, options.device)
        model.check_can_name()
        print(f"device {model.precision}")
        build_page(model, options.model).launch(
            server_port=options.port,
            theme=gr.themes.Base(**SYSTEM_FONTS),  # the default theme's fonts are not of this machine
            css=CSS,
            footer_links=[],
            max_file_size="200mb",
            ssr_mode=False,
        )

    return run_command("app.py", run)


if __name__ == "__main__":
    raise SystemExit(main())
