"""Write docs/insights.md and its pictures from trained models; what is not trained yet is trained first.

    python benchmarks/insights_page.py
    python benchmarks/insights_page.py --motion output/psn_test_resnet-motion --no-appearance

The models: the demo's PSN on `motion`, whose classes are only in the order of frames, and the same with the same recipe
on `appearance` (benchmarks/appearance_data.py), whose classes are in every single frame. Training takes minutes each on
a quiet machine with 2 cores. Every number on the page is computed here.
"""

import argparse
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from appearance_data import write_appearance
from PIL import Image

from timm_video_psn.data import VideoIndex, read_index
from timm_video_psn.engine.evaluate.accuracy import pair_hits
from timm_video_psn.engine.evaluate.compare import compare as compare_scores
from timm_video_psn.engine.evaluate.scores import Scores, save_scores
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.insights.activation_map import activation_map
from timm_video_psn.insights.class_gain import draw_class_gains
from timm_video_psn.insights.commands import make_cam, make_evolution, make_interactions, make_shapes
from timm_video_psn.insights.embedding import draw_embedding, embed
from timm_video_psn.insights.kernel_map import draw_kernel_maps, kernel_maps, read_history
from timm_video_psn.insights.kernel_shapes import ReceptiveField, synthesizer_fields
from timm_video_psn.insights.results import create_feature_loader, extract_features
from timm_video_psn.insights.temporal_evolution import temporal_evolution
from timm_video_psn.interactions import InteractionMap
from timm_video_psn.layers import ActionPerceptronSynthesizer

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "timm_video_psn" / "recipes" / "motion.yaml"
KINDS = {"temporal convolutions": "T-C", "temporal pools": "T-M", "identities": "T-I"}
FIELD_CLIPS = 24  # at whose features receptive fields are measured
MOST_BYTES = 300_000  # of a picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output"), help="where models are trained")
    parser.add_argument("--motion", type=Path, help="a trained run on motion; default: trained now")
    parser.add_argument("--appearance", type=Path, help="a trained run on appearance; default: trained now")
    parser.add_argument("--appearance-data", type=Path, help="default: drawn into --output")
    parser.add_argument("--no-appearance", action="store_true", help="leave that section out")
    parser.add_argument("--limit", type=int, help="validation videos, for a quick look; default: all")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    motion = args.motion or trained(args.output / "insights-motion", ["--dataset", "motion"])
    shown = Subject(motion, read_index("motion", None, "val"), args.limit)
    with tempfile.TemporaryDirectory() as scratch:
        page = Page(args.docs, Path(scratch))
        page.text(INTRODUCTION)
        describe_motion(page, shown)
        if args.no_appearance:
            page.text("(Written with `--no-appearance`, which leaves out the comparison with an appearance model.)")
        else:
            folder = write_appearance(args.appearance_data or args.output / "appearance")
            options = ["--dataset", "folder", "--data-dir", str(folder), "--recipe", str(RECIPE)]
            run = args.appearance or trained(args.output / "insights-appearance", options)
            compare(page, shown, Subject(run, read_index("folder", folder, "val"), args.limit))
        page.write()
    print(f"wrote {args.docs / 'insights.md'}")


def trained(folder: Path, options: Sequence[str]) -> Path:
    """The run in the folder, trained to its end if it is not yet."""
    command = [sys.executable, str(ROOT / "train_video.py"), *options, "--model", "psn_test_resnet"]
    command += ["--output", str(folder.parent), "--experiment", folder.name, "--resume", "auto"]
    subprocess.run(command, check=True)
    return folder


INTRODUCTION = """\
# Looking inside trained models

```
timm-video-psn insights report output/RUN --output report  # results and all figures on one HTML page
timm-video-psn insights cam output/RUN some.mp4
```

Each command writes its figures, animations and tables to `--output` and prints a sentence about each.

| command | shows | models |
|---|---|---|
| `interactions RUN [RUN ...]` | strength of the paths from spatial to temporal kernels (Fig. 5), also by epoch | PSN |
| `shapes RUN [--video FILE]` | synthesized kernel shapes by weight, effective receptive fields | PSN |
| `cam RUN FILE [--layer, --label, --method]` | class activation maps for every frame | any |
| `evolution RUN FILE` | class probabilities as the frames arrive | any |
| `embedding RUN [RUN ...] [--dataset NAME]` | the videos as points (t-SNE), as a figure and an interactive page | any |
| `gains BEFORE.npz AFTER.npz` | the classes that gained and lost most between two score files | any |
| `report RUN [--video FILE] [--scores BEFORE.npz AFTER.npz]` | results and all of the above on one page | any |

`RUN` is the folder of a run, its `best/`, or `hf-hub:USER/NAME`. A run records its validation data set, so `report RUN`
needs no other argument. It shows accuracy with intervals, learning curves, the confusion matrix, a table of the
classes, the hardest videos, and the figures below with their change since the start of training; `--scores` adds the
gains.

`python benchmarks/insights_page.py` writes the rest of this page from the demo's model, a tiny network trained for
minutes on generated videos. It illustrates the commands and says nothing about real videos. With another number of
threads or another release of torch, the trained accuracy changes by a point or two."""


class Subject:
    """A model, and the validation videos that it is shown, read once."""

    def __init__(self, run: Path, index: VideoIndex, limit: int | None):
        self.run, self.trained, self.index = run, load(run), index
        self.batches = list(create_feature_loader(self.trained, index, limit))
        self.frames = torch.cat([batch.clip for batch in self.batches])  # (N, T, S, S, 3)
        self.labels = torch.cat([batch.label for batch in self.batches]).numpy()
        self.videos = tuple(index.paths[int(number)] for batch in self.batches for number in batch.index)

    def shown_to(self, model: torch.nn.Module) -> TrainedModel:
        """Another model that sees the same."""
        return replace(self.trained, model=model)

    def scores(self, model: torch.nn.Module) -> np.ndarray:
        """Probabilities (N, K)."""
        return self.shown_to(model).probabilities(self.frames)

    def top1(self, scores: np.ndarray) -> float:
        """Percent."""
        return 100 * float((scores.argmax(1) == self.labels).mean())

    def within_pairs(self, scores: np.ndarray) -> float | None:
        """Percent, when only the two classes of a pair compete."""
        hits = pair_hits(scores, self.labels, self.index.reversal_pairs)
        return 100 * float(hits.mean()) if len(hits) else None

    def maps(self, entry: int) -> dict[str, InteractionMap]:
        """The mean |weight| of every path in an entry of what the run has logged: 0 is before training, -1 its end."""
        found = kernel_maps(self.trained.model, per_element=True)
        history = read_history(self.run)
        for site, one in found.items():
            rows = [history.temporal_labels[site].index(label) for label in one.temporal_labels]
            columns = [history.spatial_labels[site].index(label) for label in one.spatial_labels]
            norms = history.norms[site][entry][np.ix_(rows, columns)]
            found[site] = replace(one, norms=norms / one.sizes)
        return found

    def fields(self) -> dict[str, ReceptiveField]:
        """Receptive fields at the features of some of the videos."""
        some = np.linspace(0, len(self.frames) - 1, FIELD_CLIPS).round().astype(int)
        return synthesizer_fields(self.trained.model, self.trained.precision.clip(self.frames[some]))


class Page:
    """Markdown and pictures."""

    def __init__(self, docs: Path, scratch: Path):
        self.docs, self.scratch, self.parts = docs, scratch, []

    def text(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(text)

    def picture(self, file: Path, name: str, alt: str) -> None:
        """Take a PNG over, with 256 colours if it is large."""
        target = self.docs / "images" / f"insights_{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            full = image.convert("RGB")
            full.save(target, optimize=True)
            if target.stat().st_size > MOST_BYTES:
                palette = full.quantize(256)
                full.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(target, optimize=True)
        assert target.stat().st_size <= MOST_BYTES, f"{target} has {target.stat().st_size} bytes"
        self.parts.append(f"![{alt}](images/{target.name})")

    def film(self, file: Path, name: str, alt: str) -> None:
        """Take a GIF over as it is."""
        target = self.docs / "images" / f"insights_{name}.gif"
        shutil.copyfile(file, target)
        assert target.stat().st_size <= MOST_BYTES, f"{target} has {target.stat().st_size} bytes"
        self.parts.append(f"![{alt}](images/{target.name})")

    def write(self) -> None:
        """The page."""
        (self.docs / "insights.md").write_text("\n\n".join(self.parts) + "\n", encoding="utf-8")


def without(model: torch.nn.Module, kind: str) -> torch.nn.Module:
    """A copy whose fusion layers feed nothing to the temporal kernels of a kind (rows of T at zero)."""
    cut = copy.deepcopy(model)
    for module in cut.modules():
        if isinstance(module, ActionPerceptronSynthesizer):
            rows = module.fusion.weight.split(module.fusion.out_widths)
            with torch.no_grad():
                for row, label in zip(rows, module.temporal_bank.labels, strict=True):
                    row.mul_(not label.startswith(kind))
    return cut


def describe_motion(page: Page, subject: Subject) -> None:
    """All pictures of the one model."""
    model = subject.trained
    whole = subject.scores(model.model)
    page.text(
        f"The model, PSN on `test_resnet`, reaches {subject.top1(whole):.1f} % top-1 on the {len(whole)} validation "
        f"videos of `motion`, and {subject.within_pairs(whole):.1f} % when only the two classes of a pair compete."
    )
    show_interactions(page, subject)
    page.text("## Kernel shapes and receptive fields")
    label = subject.index.class_names.index("hop_then_pulse")
    video = subject.index.root / subject.videos[int(np.flatnonzero(subject.labels == label)[0])]
    page.picture(make_shapes(subject.trained, page.scratch, video)[0].path, "shapes", "Kernel shapes by site")
    fields = subject.fields()
    off = ", ".join(f"{100 * off_centre(field):.0f} % at {site}" for site, field in fields.items())
    page.text(
        "Top: the share of each kernel shape in ||T||. Pools count by their size, so size 3 covers two branches. "
        "Below: the effective receptive field of the synthesizer's output at its centre, in time and in space, for one "
        f"video. Over {FIELD_CLIPS} videos, the share of the energy that comes from frames other than the centre is "
        f"{off}."
    )
    show_video(page, subject, video)
    show_costs(page, subject.run, video, show_classes(page, subject, whole))


def show_interactions(page: Page, subject: Subject) -> None:
    start, end = subject.maps(0), subject.maps(-1)
    title = "||T_ij||$_1$ / elements of T_ij"
    file = draw_kernel_maps({"trained": end, "before training": start}, page.scratch / "interactions.png", title)
    page.text("## Filter interactions (Fig. 5)")
    page.picture(file, "interactions", "Interaction maps of the model, trained and before training")
    spread = ", ".join(f"{100 * one.norms.std() / one.norms.mean():.0f} %" for one in start.values())
    moved = ", ".join(f"{100 * np.abs(end[site].norms / one.norms - 1).mean():.0f} %" for site, one in start.items())
    page.text(
        "The mean |weight| of every path from a spatial kernel (column) to a temporal kernel (row). A dense T starts "
        f"with equally strong paths, up to a random spread of {spread} of the mean ({', '.join(start)}). Training has "
        f"changed the paths by {moved} on average, so with this few channels much of the pattern is chance. The last "
        "section therefore compares the maps with their initial values and measures paths by removing them."
    )
    *_, film = make_interactions([subject.trained], page.scratch)
    page.film(film.path, "epochs", "Interaction maps of the trained model, epoch by epoch")
    page.text("The norms of the same model as the run logged them, from epoch 0 (before training) to the last epoch.")


def off_centre(field: ReceptiveField) -> float:
    """Share of the energy that comes from other frames."""
    profile = field.profile(0)
    return 1 - float(profile[len(profile) // 2])


def show_video(page: Page, subject: Subject, video: Path) -> None:
    """Activation maps and evolution of one video."""
    model, name = subject.trained, video.parent.name
    page.text(f"## Activation maps\n\nGrad-CAM at layer3 (4 x 4 cells per frame) for a validation video of `{name}`:")
    page.picture(make_cam(model, video, page.scratch, layer="layer3")[0].path, "cam", "Class activation maps")
    clip = model.read(video)
    found = activation_map(model.model, model.precision.clip(clip.frames[None]), layer="layer3")
    shares = found.maps.sum((1, 2)) / found.maps.sum()
    strongest = int(shares.argmax())
    page.text(
        f"The model predicts `{model.label_names[found.label]}`. Frame {clip.indices[strongest]} of the video "
        f"receives {100 * shares[strongest]:.0f} % of the map; an even map would give each of the {len(shares)} frames "
        f"{100 / len(shares):.0f} %."
    )
    page.text("## Prediction over time\n\nThe same video:")
    page.picture(make_evolution(model, video, page.scratch)[0].path, "evolution", "Class probabilities over time")
    found = temporal_evolution(model, video)
    label = model.label_names.index(name)
    right = found.growing.argmax(1) == label
    turns = int(found.arrived[np.flatnonzero(~right)[-1]]) + 1 if not right.all() else 1
    end = f"it stays the top class from frame {turns} on" if right[-1] else "another class is the top class"
    page.text(
        f"With all {found.num_frames} frames, the probability of `{name}` is {100 * found.growing[-1, label]:.0f} %; "
        f"{end}. A window of the latest {found.window} frames sees only part of the action, and the model predicts "
        "the class that this part resembles."
    )


def show_classes(page: Page, subject: Subject, whole: np.ndarray) -> tuple[Path, Path]:
    """Embedding and gains: the model, and what is left of it without its temporal convolutions; their scores."""
    model, index = subject.trained, subject.index
    cut = without(model.model, "T-C")
    models = {}
    for name, network in (("temporal convolutions cut off", cut), ("whole", model.model)):
        features = extract_features(subject.shown_to(network), subject.batches)
        models[name] = features, embed(features)
    page.text(
        "## Embedding\n\nThe validation videos by the model's features, and by its features when its temporal "
        "convolutions are cut off (their rows of T set to zero):"
    )
    page.picture(draw_embedding(models, index.class_names, page.scratch / "e.png"), "embedding", "Embedding by t-SNE")
    (_, less), (_, more) = models.values()
    page.text(
        f"The silhouette is {less.silhouette:.2f} without the temporal convolutions and {more.silhouette:.2f} with "
        f"them; the accuracy of the 5 nearest neighbours is {100 * less.neighbour_accuracy:.0f} % and "
        f"{100 * more.neighbour_accuracy:.0f} %."
    )
    scores = subject.scores(cut)
    about = (subject.labels, subject.videos, index.class_names, "8x1x1", "probabilities", len(subject.labels))
    before, after = Scores(scores, *about), Scores(whole, *about)
    comparison = compare_scores(before, after, ("cut off", "whole"))
    gains = comparison.classes
    page.text("## Class gains\n\nThe gain of each class from the temporal convolutions, for the same two models:")
    title = "temporal convolutions cut off, to whole"
    page.picture(draw_class_gains(comparison, page.scratch / "g.png", title), "gains", "Gains of classes")
    clear = sum(one.gain.low > 0 for one in gains)
    page.text(
        f"Top-1 rises from {subject.top1(scores):.1f} % to {subject.top1(whole):.1f} %. {clear} of {len(gains)} "
        f"classes have an interval above zero; `{gains[0].name}` gains most, `{gains[-1].name}` least. The network was "
        "trained with these paths and could not adapt to losing them."
    )
    files = page.scratch / "before.npz", page.scratch / "after.npz"
    for path, each in zip(files, (before, after), strict=True):
        save_scores(path, each)
    return files


def show_costs(page: Page, run: Path, video: Path, scores: tuple[Path, Path]) -> None:
    """Each command as a user gives it, from its start to its end."""
    commands: dict[str, Sequence[str | Path]] = {
        "interactions": [run],
        "shapes": [run, "--video", video],
        "cam": [run, video],
        "evolution": [run, video],
        "embedding": [run, "--dataset", "motion"],
        "gains": scores,
        "report": [run, "--dataset", "motion", "--video", video, "--scores", *scores],
    }
    seconds = {}
    for name, arguments in commands.items():
        before = os.times()
        arguments = [name, *arguments, "--output", page.scratch / name]
        command = [sys.executable, "-m", "timm_video_psn", "insights", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        seconds[name] = sum(after[2:4]) - sum(before[2:4])  # user and system time of children
    page.text(
        "## Cost\n\nCPU time of each command on this model and the 600 videos, summed over threads and processes: "
        f"{', '.join(f'`{name}` {value:.0f} s' for name, value in seconds.items())}."
    )


def compare(page: Page, motion: Subject, appearance: Subject) -> None:
    """Order-only classes against appearance-only ones."""
    subjects = {"motion": motion, "appearance": appearance}
    maps, starts = ({name: subject.maps(entry) for name, subject in subjects.items()} for entry in (-1, 0))
    page.text(
        "## Order or appearance\n\nThe same network and recipe on two data sets: `motion`, whose 12 classes form pairs "
        "that differ only in the order of the frames, and `appearance` (`benchmarks/appearance_data.py`), whose 6 "
        "classes are the colours of the same shapes in random motion, visible in every frame."
    )
    title = "||T_ij||$_1$ / elements of T_ij"
    file = draw_kernel_maps(maps, page.scratch / "both.png", title)
    page.picture(file, "order_or_appearance", "Interaction maps of the two models")
    page.text(f"| growth through training, % | {' | '.join(maps['motion'])} |\n" + rule(len(maps["motion"])))
    grown = {
        (kind, name): [
            100 * (weight_of(one, prefix) / weight_of(starts[name][site], prefix) - 1) for site, one in sites.items()
        ]
        for kind, prefix in KINDS.items()
        for name, sites in maps.items()
    }
    page.parts[-1] += "".join(
        f"\n| {name}, paths into {kind} | " + " | ".join(f"{value:+.0f}" for value in values) + " |"
        for (kind, name), values in grown.items()
    )
    page.text(f"| top-1, % | whole | {' | '.join(f'{kind} cut off' for kind in KINDS)} |\n" + rule(1 + len(KINDS)))
    lost = {}
    for name, subject in subjects.items():
        model = subject.trained.model
        whole = subject.top1(subject.scores(model))
        rest = [subject.top1(subject.scores(without(model, prefix))) for prefix in KINDS.values()]
        lost[name] = whole - rest[0]
        page.parts[-1] += f"\n| {name} | {whole:.1f} | " + " | ".join(f"{value:.1f}" for value in rest) + " |"
    off = {
        name: np.mean([off_centre(field) for field in subject.fields().values()]) for name, subject in subjects.items()
    }
    stronger = {name: np.mean([share_of(one, "T-C") for one in sites.values()]) for name, sites in maps.items()}
    added = [float(np.mean(grown["temporal convolutions", name])) for name in subjects]
    page.text(
        "Are the paths into temporal convolutions stronger where only the order distinguishes the classes? Four "
        "measures, `motion` against `appearance`, one run each:\n\n"
        f"- Share of the mean weight of T: {than(stronger['motion'], stronger['appearance'], 0.01)}, "
        f"{100 * stronger['motion']:.1f} % against {100 * stronger['appearance']:.1f} %. An even T gives 60 % "
        "(three of five rows); much of the rest is the random initialisation.\n"
        f"- Growth through training, mean over the sites: {than(*added, 2)}, {added[0]:.1f} % against "
        f"{added[1]:.1f} %.\n"
        f"- Gradients: {100 * off['motion']:.0f} % of the energy of the synthesizers' output comes from other frames, "
        f"against {100 * off['appearance']:.0f} %.\n"
        f"- Loss of top-1 when these paths are cut off: {lost['motion']:.1f} points against "
        f"{lost['appearance']:.1f}. Chance is 8.3 % on `motion` and 16.7 % on `appearance`."
    )


def rule(columns: int) -> str:
    return "|---" * (columns + 1) + "|"


def weight_of(one: InteractionMap, prefix: str) -> float:
    """Sum of the rows of a kind."""
    return float(one.norms[[label.startswith(prefix) for label in one.temporal_labels]].sum())


def share_of(one: InteractionMap, prefix: str) -> float:
    """Share of the rows of a kind in the sum of a map."""
    return weight_of(one, prefix) / float(one.norms.sum())


def than(motion: float, appearance: float, margin: float) -> str:
    """Whether the one is more than the other, by a margin that is worth a word."""
    difference = motion - appearance
    return "hardly" if abs(difference) < margin else "yes" if difference > 0 else "no, weaker"


if __name__ == "__main__":
    main()
