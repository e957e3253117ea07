"""Accuracy of exported files with floats and with eight-bit integers, on the validation set, beside the model.

    python benchmarks/int8_accuracy.py
    python benchmarks/int8_accuracy.py --model output/RUN --formats onnx --data-dir DIR

Every row runs the file in its own runtime, clip by clip, on the clips of validation. Bytes go in, so the file
normalises too. The int8 files are calibrated on clips evenly spread over the training set.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import timm_video_psn
from timm_video_psn.deploy.export import export
from timm_video_psn.deploy.formats import FORMATS
from timm_video_psn.deploy.quantize import INT8
from timm_video_psn.engine.run_index import read_run_index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="psn_test_resnet.motion", help="run folder or model name")
    parser.add_argument("--data-dir", type=Path, help="data set (default: where the run found it)")
    parser.add_argument("--formats", nargs="+", choices=list(INT8), default=list(INT8))
    parser.add_argument("--calibration-clips", type=int, default=96)
    args = parser.parse_args()
    trained = timm_video_psn.load(args.model, "cpu")
    calibration, _ = read_clips(trained, args.data_dir, "train", args.calibration_clips)
    clips, labels = read_clips(trained, args.data_dir, "val")
    expected = torch.cat([torch.from_numpy(trained.probabilities(clip[None])) for clip in clips])
    print(f"{args.model}: {len(clips)} validation clips, {len(calibration)} calibration clips")
    print(f"{'file':<18}{'top-1 %':>9}{'same class %':>14}{'MB':>8}")
    print(f"{'the model':<18}{accuracy(expected, labels):>9.2f}")
    with tempfile.TemporaryDirectory() as folder:
        for format in args.formats:
            for kind, given in (("float", None), ("int8", calibration)):
                exported = export(
                    trained.model,
                    Path(folder, f"{format}-{kind}"),
                    format,
                    batch="1",
                    img_size=trained.protocol.img_size,
                    normalize=True,
                    calibration=given,
                )
                run = FORMATS[format].open(exported.file)
                found = torch.cat([run(clip[None])[0] for clip in tqdm(clips, leave=False)])
                same = 100 * (found.argmax(1) == expected.argmax(1)).double().mean().item()
                size = exported.file.stat().st_size / 1e6
                print(f"{format + ' ' + kind:<18}{accuracy(found, labels):>9.2f}{same:>14.2f}{size:>8.2f}")


def read_clips(
    trained: timm_video_psn.TrainedModel, data_dir: Path | None, split: str, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """The clips of validation, (N, T, S, S, 3) uint8, evenly spread over a split; and their labels."""
    _, index = read_run_index(trained, None, data_dir, split)
    count = min(most or len(index), len(index))
    numbers = [place * len(index) // count for place in range(count)]
    clips = [
        trained.prepare(index.decode(number, trained.frame_indices)) for number in tqdm(numbers, split, leave=False)
    ]
    return torch.stack(clips), torch.from_numpy(index.labels[numbers])


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Top-1, %."""
    return 100 * (scores.argmax(1) == labels).double().mean().item()


if __name__ == "__main__":
    main()
