"""The script beside an exported model: it labels a video, and needs the runtime but not this package."""

from typing import Any

_SCRIPT = '''"""Labels a video with the model of this folder: python example.py VIDEO. Needs {packages}."""

import json, sys
from pathlib import Path

import av, numpy as np
from PIL import Image
{imports}

folder = Path(__file__).parent
config = json.loads((folder / "config.json").read_text())
side, short_side, count = config["video"]["img_size"], config["video"]["short_side"], config["num_frames"]

def crop(image):  # the short side resized, then the centre
    size = [short_side * length // min(image.size) for length in image.size]
    left, top = (round((length - side) / 2) for length in size)
    return np.asarray(image.resize(size, {resample}).crop((left, top, left + side, top + side)))

with av.open(sys.argv[1]) as container:
    frames = [crop(frame.to_image()) for frame in container.decode(video=0)]
total = len(frames)
{indices}
clip = np.stack([frames[i] for i in indices])  # (T, H, W, C), bytes
{prepare}
{run}
{softmax}for k in np.argsort(-probabilities)[:5]:
    print(f"{{probabilities[k]:7.2%}}  {{config['label_names'][k]}}")
'''

INDICES = {
    "segments": "indices = [int(total / count / 2 + total / count * i) for i in range(count)]",
    "tsm": "indices = [int(total / count / 2 + total / count * i) * (total > count) for i in range(count)]",
    "uniform": (
        "ends = np.round((total - 1) / count * np.arange(count + 1)).astype(int)\nindices = (ends[:-1] + ends[1:]) // 2"
    ),
    "dense": "indices = (max(0, total - 64) // 2 + max(1, 64 // count) * np.arange(count)) % total",
}

_IMPORTS = {
    "torch": "import torch",
    "onnx": "import onnxruntime",
    "executorch": "import torch\nfrom executorch.runtime import Runtime",
    "aoti": 'import os, torch\n\nos.environ["AOTI_RUNTIME_CHECK_INPUTS"] = "1"  # else other sizes run, too',
}

_RUN = {
    "torch": 'model = torch.export.load(folder / config["file"]).module()\noutput = model(torch.from_numpy(x)).numpy()',
    "onnx": (
        'session = onnxruntime.InferenceSession(folder / config["file"])\n'
        "output = session.run(None, {session.get_inputs()[0].name: x})[0]"
    ),
    "executorch": (
        'method = Runtime.get().load_program(folder / config["file"]).load_method("forward")\n'
        "output = method.execute([torch.from_numpy(x)])[0].numpy()"
    ),
    "aoti": (
        'model = torch._inductor.aoti_load_package(str(folder / config["file"]))\n'
        "output = model(torch.from_numpy(x)).numpy()"
    ),
}

_NEEDS = {"onnx": "onnxruntime", "executorch": "executorch and torch"}


def example_script(format: str, config: dict[str, Any]) -> str:
    """The text of the script.

    Args:
        format: of the model.
        config: the entries of its `config.json`.
    """
    shape, takes_bytes = config["input"]["shape"], config["input"]["dtype"] == "uint8"
    one_clip = len(shape) == 4
    if takes_bytes:
        prepare = "x = clip" if one_clip else "x = clip[None]"
    else:
        order = "(0, 3, 1, 2)" if one_clip else "(3, 0, 1, 2)"
        x = f"np.ascontiguousarray(clip.transpose{order})"
        prepare = (
            'mean, std = (np.float32(config["preprocessing"][key]) for key in ("mean", "std"))\n'
            f"clip = (clip - 255 * mean) / (255 * std)\nx = {x if one_clip else f'{x}[None]'}"
        )
    softmax = "probabilities = output[0]\n"
    if not takes_bytes:
        softmax = "probabilities = np.exp(output[0] - output[0].max())\nprobabilities /= probabilities.sum()\n"
    return _SCRIPT.format(
        packages=f"av, numpy, pillow and {_NEEDS.get(format, 'torch')}",
        imports=_IMPORTS[format],
        resample=f"Image.Resampling.{config['preprocessing']['interpolation'].upper()}",
        indices=INDICES[config["video"]["sampling"]],
        prepare=prepare,
        run=_RUN[format],
        softmax=softmax,
    )
