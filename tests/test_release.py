"""The release: what is in its files, and that the wheel alone, without a clone, does what the README says."""

import os
import re
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

from timm_video_psn.version import __version__

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(command: list, cwd: Path, **env: str) -> str:
    """What a command prints; an error shows all of it."""
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | env
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """The folder of the built files."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], ROOT)
    return folder


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory) -> Path:
    """The scripts of a new environment with the wheel, which borrows the packages that the wheel needs."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    (own,) = map(Path, run([python, "-c", "import site; print(site.getsitepackages()[0])"], folder).split())
    (own / "borrowed.pth").write_text("\n".join(site.getsitepackages()))
    (wheel,) = dist.glob("*.whl")
    run([python, "-m", "pip", "install", "--no-index", "--no-deps", "--force-reinstall", "-q", wheel], folder)
    return folder / "bin"


def test_the_files_are_complete_and_hold_nothing_else(dist):
    pytest.importorskip("twine")
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    run([sys.executable, "-m", "twine", "check", "--strict", wheel, source], dist)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(archive.read(f"timm_video_psn-{__version__}.dist-info/METADATA").decode())
    tracked = run(["git", "ls-files", "timm_video_psn"], ROOT).splitlines()
    assert {name for name in names if ".dist-info/" not in name} == set(tracked)
    assert "timm_video_psn/py.typed" in names
    assert metadata["Version"] == __version__
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE", "pyproject.toml", "tests/test_release.py"} <= inside


def test_the_version_is_the_same_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == __version__


def test_from_an_empty_folder_the_wheel_trains_tests_predicts_reports_and_publishes(installed, tmp_path):
    def command(*words: str) -> str:
        return run([installed / "timm-video-psn", *words], tmp_path, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")

    where = run([installed / "python", "-c", "import timm_video_psn as t; print(t.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    draw = (
        "from timm_video_psn.data import prepare_motion\n"
        "prepare_motion('motion', workers=1, progress=False, train_per_class=3, val_per_class=1)"
    )
    run([installed / "python", "-c", draw], tmp_path)
    size = ("--img-size", "32", "--num-frames", "4", "--batch-size", "6", "--workers", "0")
    command("train", "--dataset", "motion", "--data-dir", "motion", "--epochs", "1", *size)
    model = "output/psn_test_resnet-motion"
    assert (tmp_path / model / "best" / "model.safetensors").is_file()
    assert "top-1" in command("validate", "--model", model, "--data-dir", "motion", "--workers", "0")
    video = next((tmp_path / "motion" / "val").rglob("*.mp4"))
    assert command("predict", str(video), "--model", model).count("%") == 5
    right = video.parent.name
    assert f"%  {right}\n" in command("predict", str(video), "--model", "psn_test_resnet.motion", "--topk", "1")
    command("insights", "report", model, "--data-dir", "motion", "--output", "report")
    assert "top-1" in (tmp_path / "report" / "report.html").read_text()
    command("publish", model, "--repo-id", "me/motion", "--license", "apache-2.0", "--dry-run", "bundle")
    assert (tmp_path / "bundle" / "README.md").read_text().startswith("---")
