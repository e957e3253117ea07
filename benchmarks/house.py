"""How large the package is, and how much of it one has to read: the numbers that should go down.

    python benchmarks/house.py
    python benchmarks/house.py --root ../another/checkout

Lines and files come from the tree, import circles from the imports (also those inside functions). "Building a run" and
"a training step" are counted while `train_video.py` trains a tiny model on four tiny videos, on the CPU and without
workers, so that decoding counts. Building ends where the training loader starts; the step is the third one, from the
end of one optimizer step to the end of the next. A file counts if one of its functions runs; code that runs because a
module is imported does not count. The words are those that the style of the docs avoids.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = "timm_video_psn"
STIFF = re.compile(r"\b(that\s+of|those\s+of|likewise)\b", re.IGNORECASE)
TEXTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "hub/*.md", "hub/space/*.md")

# Runs in a process of its own, with the package of --root: profiles its train_video.py and writes what ran.
COUNT = r"""
import json, runpy, sys, threading
from pathlib import Path
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

root, out, argv = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
package = str(root / "timm_video_psn")
seen = {"building": set(), "step": set()}
phase, steps, started = "building", 0, False

def is_importing(frame):
    while frame := frame.f_back:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(package):
            return True
    return False

def profile(frame, event, argument):
    code = frame.f_code
    if event == "call" and phase and code.co_filename.startswith(package) and code.co_flags & 1:
        key = (code.co_filename[len(package) + 1:], code.co_firstlineno, code.co_name)
        if key not in seen[phase] and not is_importing(frame):
            seen[phase].add(key)

def after_optimizer_step(optimizer, args, kwargs):
    global phase, steps
    steps += 1
    phase = {2: "step"}.get(steps)

def iterate(loader, iterate=torch.utils.data.DataLoader.__iter__):
    global phase, started
    if not started:
        phase, started = None, True
    return iterate(loader)

torch.utils.data.DataLoader.__iter__ = iterate
register_optimizer_step_post_hook(after_optimizer_step)
sys.argv = ["train_video.py", *argv]
threading.setprofile(profile)
sys.setprofile(profile)
try:
    runpy.run_path(str(root / "train_video.py"), run_name="__main__")
except SystemExit as end:
    assert not end.code, f"training ended with {end.code}"
finally:
    sys.setprofile(None)
assert started and steps >= 3, f"the loader started: {started}, optimizer steps: {steps}"
out.write_text(json.dumps({name: sorted(ran) for name, ran in seen.items()}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the checkout to count")
    parser.add_argument("--list", action="store_true", help="print the files and functions of both ways")
    args = parser.parse_args()
    root = args.root.resolve()
    sources = sorted((root / PACKAGE).rglob("*.py"))
    report_size(root, sources)
    found = [" <-> ".join(sorted(circle)) for circle in circles(import_graph(root, sources))]
    print(f"\nimport circles: {len(found)}", *found, sep="\n  ")
    report_ways(count_ways(root), args.list)
    report_words(root, sources)


def count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def report_size(root: Path, sources: list[Path]) -> None:
    """Prints the lines of the package, and for each folder its files, its lines and its largest file."""
    print(f"package: {sum(map(count_lines, sources))} lines in {len(sources)} files\n")
    print(f"{'folder':<26}{'files':>6}{'lines':>8}   largest")
    for folder, files in Counter(path.parent for path in sources).items():
        inside = [path for path in sources if path.parent == folder]
        largest = max(inside, key=count_lines)
        name = folder.relative_to(root).as_posix().removeprefix(f"{PACKAGE}/")
        lines = sum(map(count_lines, inside))
        print(f"{name:<26}{files:>6}{lines:>8}   {largest.name}, {count_lines(largest)}")


def import_graph(root: Path, sources: list[Path]) -> dict[str, set[str]]:
    """The modules of the package that each module imports, by dotted name."""
    names = {path: ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in sources}
    known = set(names.values())

    def nearest(name: str) -> str | None:
        while name and name not in known:
            name = name.rpartition(".")[0]
        return name or None

    def imported(path: Path) -> Iterator[str | None]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (nearest(alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (nearest(f"{node.module}.{alias.name}") for alias in node.names)

    return {names[path]: {name for name in imported(path) if name} - {names[path]} for path in sources}


def circles(graph: dict[str, set[str]]) -> Iterator[set[str]]:
    """Groups of modules that import each other, directly or by way of others."""

    def reachable(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    reach = {module: reachable(module) for module in graph}
    left = {module for module in graph if module in reach[module]}
    while left:
        first = left.pop()
        circle = {first} | {other for other in left if other in reach[first] and first in reach[other]}
        left -= circle
        yield circle


def count_ways(root: Path) -> dict[str, list[tuple[str, int, str]]]:
    """What runs of the package: (file, first line, name) of each function, for building and for a step."""
    with tempfile.TemporaryDirectory() as folder:
        write_videos(Path(folder) / "videos")
        out = Path(folder) / "ran.json"
        argv = ["--dataset", "folder", "--data-dir", f"{folder}/videos", "--output", f"{folder}/runs", "--epochs", "1"]
        argv += ["--model", "psn_test_resnet", "--no-pretrained", "--num-frames", "4", "--img-size", "32"]
        argv += ["--batch-size", "1", "--workers", "0", "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-c", COUNT, str(root), str(out), *argv],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(root), "TQDM_DISABLE": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"train_video.py failed:\n{done.stdout}{done.stderr}")
        return {name: [tuple(entry) for entry in ran] for name, ran in json.loads(out.read_text()).items()}


def write_videos(folder: Path) -> None:
    """Writes two classes with four training videos and one for validation each: noise, 12 frames of 48x48."""
    import av
    import numpy as np

    rng = np.random.default_rng(0)
    for split, videos in (("train", 4), ("val", 1)):
        for path in (folder / split / name / f"{video}.mp4" for name in ("a", "b") for video in range(videos)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with av.open(str(path), "w") as container:
                stream = container.add_stream("libx264", rate=12, options={"g": "4"})
                stream.width = stream.height = 48
                stream.pix_fmt = "yuv420p"
                for _ in range(12):
                    picture = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                container.mux(stream.encode())


def report_ways(ways: dict[str, list[tuple[str, int, str]]], listed: bool) -> None:
    """Prints how many files and functions each way touches; comprehensions and lambdas are part of their function."""
    for name, ran in ways.items():
        functions = [(file, function) for file, _, function in ran if not function.startswith("<")]
        title = {"building": "building a run", "step": "a training step"}[name]
        files = {file for file, _, _ in ran}
        of_data = sum(file.startswith("data/") for file in files)
        print(f"{title}: {len(files)} files ({of_data} of them in data/), {len(functions)} functions")
        if listed:
            for file in sorted(files):
                print(f"  {file}: {', '.join(function for its, function in functions if its == file)}")


def report_words(root: Path, sources: Iterable[Path]) -> None:
    """Prints how often the words to avoid occur in the package and in the docs."""
    texts = [path for pattern in TEXTS for path in sorted(root.glob(pattern))]
    for where, paths in (("package", sources), ("docs", texts)):
        counts = Counter({path: len(STIFF.findall(path.read_text(encoding="utf-8"))) for path in paths})
        worst = ", ".join(f"{path.relative_to(root)} {count}" for path, count in counts.most_common(5) if count)
        print(f'"that of", "those of", "likewise" in the {where}: {counts.total()}' + (f" ({worst})" if worst else ""))


if __name__ == "__main__":
    main()
