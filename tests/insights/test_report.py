"""The report as a browser shows it: results first, every picture there, nothing asked of any host."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.browser import requested_hosts
from tests.insights.tiny_runs import CLASSES
from timm_video_psn.__main__ import insights as main
from timm_video_psn.engine.evaluate.scores import Scores, save_scores
from timm_video_psn.engine.load_model import load
from timm_video_psn.insights import report
from timm_video_psn.insights.report import make_report


def write_scores(folder: Path) -> tuple[Path, Path]:
    """Two files of scores on the same videos."""
    paths = folder / "before.npz", folder / "after.npz"
    for seed, path in enumerate(paths):
        values = np.random.default_rng(seed).random((30, 3), dtype=np.float32)
        save_scores(path, Scores(values, np.arange(30) % 3, tuple(map(str, range(30))), CLASSES, "4x1x1", "logits", 30))
    return paths


@pytest.fixture
def run(model_folder, class_folders, tmp_path) -> Path:
    """A run that knows its data and kept its curves and its maps."""
    folder = shutil.copytree(model_folder.parent, tmp_path / "run")
    history = np.random.default_rng(0).random((2, 5, 4))
    np.savez(folder / "interactions.npz", epoch=np.arange(2), layer1=history)
    (folder / "args.yaml").write_text(yaml.safe_dump({"dataset": "folder", "data_dir": str(class_folders)}))
    Image.new("RGB", (200, 150)).save(folder / "curves.png")
    return folder


def test_a_browser_shows_the_results_and_every_picture_and_asks_nobody(run, tmp_path, browser):
    made = make_report(load(run), tmp_path, scores=write_scores(tmp_path))
    assert made.failed == ()
    browser.get(made.page.path.as_uri())
    assert requested_hosts(browser) <= {None, ""}
    headings = [item.text for item in browser.find_elements("css selector", "h2")]
    video = next(heading for heading in headings if heading.startswith("Activation maps of "))[19:]
    assert headings == [
        *("Results", "Training", "Confusion", "Classes", "Hardest videos", f"Activation maps of {video}"),
        *(
            f"Prediction over time, {video}",
            "Embedding",
            "Filter interactions",
            "Kernel shapes",
            "Class gains",
            "Model",
        ),
    ]
    links = [item.get_attribute("href").partition("#")[2] for item in browser.find_elements("css selector", "nav a")]
    assert links == [f"s{number}" for number in range(11)]
    numbers = browser.find_element("css selector", ".numbers").text
    assert re.search(r"top-1\n[\d.]+ %\n95 % interval [\d.]+ to [\d.]+", numbers)
    widths = browser.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth)")
    hardest = len(browser.find_elements("css selector", ".grid img"))
    # curves, confusion, activation map, evolution, interactions twice and as a film, shapes, gains
    assert len(widths) == 9 + hardest
    assert hardest > 0
    assert all(width > 100 for width in widths)
    videos = browser.execute_script("return [...document.querySelectorAll('video')].map(v => v.src.slice(0, 21))")
    assert videos == ["data:video/mp4;base64"] * 2
    text = browser.find_element("tag name", "body").text
    assert "all 9 validation videos of folder, protocol 4x1x1@32/37 segments logits" in text
    assert "psn_test_resnet" in text
    assert "spin & turn" in text
    assert "S-C-3 spatial convolution, 3 x 3 pixels of the site's map" in text
    assert "Nothing to show here" not in text
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    browser.switch_to.frame(browser.find_element("tag name", "iframe"))
    assert len(browser.find_elements("tag name", "circle")) == 9
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_videos_of_one_name_keep_their_own_pictures(other_folder, class_folders, tmp_path, costly):
    videos = [class_folders / name / "0.mp4" for name in CLASSES[:2]]
    made = make_report(load(other_folder), tmp_path, videos)
    page = made.page.path.read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:(?:image/png|video/mp4);base64,([^"]+)"', page)
    assert len(pictures) == len(set(pictures)) == 8


def test_what_a_model_does_not_have_is_left_out_and_missing_data_is_told_of(other_folder, tmp_path, capsys):
    assert main(["report", str(other_folder), "--output", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "section 'Results' is left out: " in captured.err
    assert "name it with --dataset NAME" in captured.err
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "does not record its data set; name it with --dataset NAME" in page
    assert "Filter interactions" not in page
    assert "<img" not in page


def test_a_section_that_fails_is_named_and_the_others_are_there(run, tmp_path, monkeypatch, capsys, costly):
    def broken(*arguments):
        raise RuntimeError("the layer has no maps")

    monkeypatch.setattr(report, "make_cam", broken)
    assert main(["report", str(run), "--output", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert re.search(r"section 'Activation maps of .*' failed: the layer has no maps", captured.err)
    assert "1 sections failed: Activation maps of" in captured.err
    assert re.search(r"^made      Confusion \([\d.]+ s\)$", captured.out, re.MULTILINE)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Nothing to show here: the layer has no maps" in page
    assert page.count("<img") > 5
