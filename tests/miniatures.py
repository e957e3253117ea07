"""Miniature copies of the data sets, in the exact form in which their owners and mirrors ship them."""

import json
from pathlib import Path

import av
import numpy as np
from PIL import Image

from timm_video_psn.data.video.write_video import write_video

NUM_FRAMES = 10
# As the official files write them; the sorted order differs from this one.
TEMPLATES = [
    "Pushing [something] from left to right",
    "Holding [something]",
    "Pushing [something] from right to left",
    "Putting [something], [something] and [something] on the table",
]
CLASSES = tuple(sorted(template.replace("[", "").replace("]", "") for template in TEMPLATES))
KINETICS = ["riding a bike", "abseiling", "massaging person's head", "dancing ballet"]
DIVES = [
    ["Back", "15som", "05Twis", "FREE"],
    ["Back", "15som", "NoTwis", "PIKE"],
    ["Forward", "25som", "1Twis", "PIKE"],
]


def pictures(seed: int, num_frames: int = NUM_FRAMES) -> np.ndarray:
    """Frames (T, 36, 48, 3) that move."""
    blocks = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    picture = np.kron(blocks, np.ones((4, 4, 1), dtype=np.uint8))  # (36, 48, 3)
    return np.stack([np.roll(picture, 2 * shift, axis=1) for shift in range(num_frames)])


def write_webm(path: Path, frames: np.ndarray) -> None:
    """VP9, as Something-Something V2 comes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=12, options={"deadline": "realtime", "cpu-used": "8"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def write_mp4(path: Path, frames: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames)


def write_images(folder: Path, frames: np.ndarray, template: str = "{:05d}.jpg", first: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, first):
        Image.fromarray(frame).save(folder / template.format(number))


def write_text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return path


def sthv1(root: Path, first_release: bool = True) -> Path:
    """Something-Something V1: `;` csv without header, unsorted labels, folders of JPEG frames."""
    folder, title = (root, "something-something-v1-") if first_release else (root / "labels", "")
    names = [template.replace("[", "").replace("]", "") for template in TEMPLATES]
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for label, name in enumerate(names):
        for number in range(4):
            split = ("train", "train", "validation", "test")[number]
            video = str(100218 + 10 * label + number)
            splits[split].append(video if split == "test" else f"{video};{name}")
            write_images(root / "20bn-something-something-v1" / video, pictures(int(video), NUM_FRAMES + number))
    for split, lines in splits.items():
        write_text(folder / f"{title}{split}.csv", *lines)
    write_text(folder / f"{title}labels.csv", *names)
    return root


def sthv2(root: Path, first_release: bool = True) -> Path:
    """Something-Something V2: json with placeholders in brackets, VP9 webm."""
    package = root / "20bn-something-something-download-package-labels" / "labels"
    folder, title = (root, "something-something-v2-") if first_release else (package, "")
    splits: dict[str, list[dict[str, object]]] = {"train": [], "validation": [], "test": []}
    answers = []
    for label, template in enumerate(TEMPLATES):
        for number in range(4):
            split = ("train", "train", "validation", "test")[number]
            video = str(78687 + 10 * label + number)
            thing = "a cup"
            item = {"id": video, "label": template.replace("[something]", thing), "template": template}
            splits[split].append({"id": video} if split == "test" else {**item, "placeholders": [thing]})
            answers += [f"{video};{template.replace('[', '').replace(']', '')}"] * (split == "test")
            write_webm(root / "20bn-something-something-v2" / f"{video}.webm", pictures(int(video)))
    for split, items in splits.items():
        write_json(folder / f"{title}{split}.json", items)
    write_json(folder / f"{title}labels.json", {name: str(label) for label, name in enumerate(CLASSES)})
    if not first_release:
        write_text(folder / "test-answers.csv", *answers)
    return root


def k400(root: Path, class_folders: bool = True, both_times: bool = True, is_cc: bool = False) -> Path:
    """Kinetics-400: official csv, trimmed mp4 files."""
    header = "label,youtube_id,time_start,time_end,split" + ",is_cc" * is_cc
    for split, called, count in (("train", "train", 2), ("val", "validate", 1)):
        lines = [header]
        for label, name in enumerate(KINETICS):
            for number in range(count):
                video, start = f"{split[:2]}-_{label}abcd{number:02d}", 7 * number
                quoted = f'"{name}"' if is_cc else name
                lines.append(f"{quoted},{video},{start},{start + 10},{called}" + ",0" * is_cc)
                times = f"{start:06d}_{start + 10:06d}" if both_times else f"{start}"
                folder = (
                    root / split / (name.replace(" ", "_") if both_times else name) if class_folders else root / split
                )
                write_mp4(folder / f"{video}_{times}.mp4", pictures(100 * label + number))
        file = root / "annotations" / f"{split}.csv" if is_cc else root / f"kinetics-400_{split}.csv"
        write_text(file, *lines)
    return root


def diving48(root: Path, version: str = "V2_") -> Path:
    """Diving48: json with frames, the vocabulary, mp4."""
    for split, count in (("train", 3), ("test", 1)):
        items = []
        for label in range(len(DIVES)):
            for number in range(count):
                video = f"_8Vy3dlHg2w_{label}{split == 'test':d}{number:03d}"
                items.append({"vid_name": video, "label": label, "start_frame": 0, "end_frame": NUM_FRAMES + 1})
                write_mp4(root / "rgb" / f"{video}.mp4", pictures(100 * label + number, NUM_FRAMES + 8))
        write_json(root / f"Diving48_{version}{split}.json", items)
    write_json(root / "Diving48_vocab.json", DIVES)
    return root


def frame_lists(root: Path, separator: str = " ", template: str = "img_{:05d}.jpg") -> Path:
    """The lists of TSM, GSM and GST, over folders of frames."""
    for split, count in (("train", 3), ("val", 1)):
        lines = []
        for label in range(len(CLASSES)):
            for number in range(count):
                video = f"{split}_{label}_{number}"
                write_images(root / "frames" / video, pictures(100 * label + number), template)
                lines.append(separator.join((video, str(NUM_FRAMES), str(label))))
        write_text(root / f"{split}_videofolder.txt", *lines)
    write_text(root / "category.txt", *CLASSES)
    return root
