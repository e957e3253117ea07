"""The script beside an exported model: it labels a video, and needs the runtime but not this package."""

from typing import Any

_HEAD = '''"""Labels a video with the model of this folder: python example.py VIDEO. Needs {packages}."""

import json, sys
from pathlib import Path

import av, numpy as np
from PIL import Image
{imports}

folder = Path(__file__).parent
config = json.loads((folder / "config.json").read_text())
side, short_side, count = config["video"]["img_size"], config["video"]["short_side"], config["num_frames"]
{load}

def crop(image):  # the short side resized, then the centre
    size = [short_side * length // min(image.size) for length in image.size]
    left, top = (round((length - side) / 2) for length in size)
    return np.asarray(image.resize(size, {resample}).crop((left, top, left + side, top + side)))

def show(scores):
    probabilities = {softmax}
    for k in np.argsort(-probabilities)[:5]:
        print(f"{{probabilities[k]:7.2%}}  {{config['label_names'][k]}}")

'''

_CLIP = """with av.open(sys.argv[1]) as container:
    frames = [crop(frame.to_image()) for frame in container.decode(video=0)]
total = len(frames)
{indices}
x = np.stack([frames[i] for i in indices]){batch}  # bytes, the channels last
{prepare}show(run(x)[0][0])
"""

_STREAM = """initial = np.load(folder / "initial_state.npz")
state = [initial[name] for name in config["state"]["inputs"]]
with av.open(sys.argv[1]) as container:
    for frame in container.decode(video=0):  # or every second one, ...: as far apart as in training
        x = crop(frame.to_image())[None]  # bytes, the channels last
        {prepare}scores, *state = run(x, *state)  # of all frames so far
show(scores[0])
"""

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

_LOAD = {
    "torch": (
        'model = torch.export.load(folder / "model.pt2").module()\n'
        "run = lambda *arrays: [y.numpy() for y in as_list(model(*map(torch.from_numpy, arrays)))]\n"
        "as_list = lambda y: [y] if torch.is_tensor(y) else y"
    ),
    "onnx": (
        'session = onnxruntime.InferenceSession(folder / "model.onnx")\n'
        "names = [each.name for each in session.get_inputs()]\n"
        "run = lambda *arrays: session.run(None, dict(zip(names, arrays)))"
    ),
    "executorch": (
        'method = Runtime.get().load_program(folder / "model.pte").load_method("forward")\n'
        "run = lambda *arrays: [y.numpy().copy() for y in method.execute([*map(torch.from_numpy, arrays)])]"
    ),
    "aoti": (
        'model = torch._inductor.aoti_load_package(str(folder / "model.pt2"))\n'
        "run = lambda *arrays: [y.numpy() for y in as_list(model(*map(torch.from_numpy, arrays)))]\n"
        "as_list = lambda y: [y] if torch.is_tensor(y) else y"
    ),
}

_NEEDS = {"onnx": "onnxruntime", "executorch": "executorch and torch"}


_ACTIVATIONS = {
    "softmax": "np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()",
    "sigmoid": "1 / (1 + np.exp(-scores))",
}


def example_script(format: str, config: dict[str, Any]) -> str:
    """The text of the script.

    Args:
        format: Of the model.
        config: The entries of its `config.json`.
    """
    layout, takes_bytes = config["layout"], config["preprocessing"]["included"]
    normalize = [
        'mean, std = (np.float32(config["preprocessing"][key]) for key in ("mean", "std"))',
        "x = np.ascontiguousarray(np.moveaxis((x - 255 * mean) / (255 * std), -1, 1))",
    ]
    indent = " " * 8 if layout == "stream" else ""
    prepare = "" if takes_bytes else "".join(f"{line}\n{indent}" for line in normalize)
    return (_HEAD + (_STREAM if layout == "stream" else _CLIP)).format(
        packages=f"av, numpy, pillow and {_NEEDS.get(format, 'torch')}",
        imports=_IMPORTS[format],
        load=_LOAD[format],
        resample=f"Image.Resampling.{config['preprocessing']['interpolation'].upper()}",
        softmax="scores" if takes_bytes else _ACTIVATIONS[config.get("activation", "softmax")],
        indices=INDICES[config["video"]["sampling"]],
        batch="[None]" if layout == "clip" else "",
        prepare=prepare,
    )
