"""The report as a browser shows it: every picture there, nothing asked of any host."""

import re
import shutil
from pathlib import Path

import numpy as np
import yaml

from tests.browser import requested_hosts
from tests.insights.tiny_runs import CLASSES
from timm_video_psn.engine.evaluate.scores import Scores, save_scores
from timm_video_psn.engine.load_model import load
from timm_video_psn.insights.report import make_report


def write_scores(folder: Path) -> tuple[Path, Path]:
    """Two files of scores on the same videos."""
    paths = folder / "before.npz", folder / "after.npz"
    for seed, path in enumerate(paths):
        values = np.random.default_rng(seed).random((30, 3), dtype=np.float32)
        save_scores(path, Scores(values, np.arange(30) % 3, tuple(map(str, range(30))), CLASSES, "4x1x1", "logits", 30))
    return paths


def test_a_browser_shows_every_picture_of_a_trained_folder_and_asks_nobody(
    model_folder, class_folders, tmp_path, browser
):
    run = shutil.copytree(model_folder.parent, tmp_path / "run")
    history = np.random.default_rng(0).random((2, 5, 4))
    np.savez(run / "interactions.npz", epoch=np.arange(2), layer1=history)
    (run / "args.yaml").write_text(yaml.safe_dump({"dataset": "folder", "data_dir": str(class_folders)}))
    (made,) = make_report(load(run), tmp_path, scores=write_scores(tmp_path))
    browser.get(made.path.as_uri())
    assert requested_hosts(browser) <= {None, ""}
    widths = browser.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth)")
    assert len(widths) == 8  # interactions twice and as a film, shapes, activation map, evolution, embedding, gains
    assert all(width > 100 for width in widths)
    videos = browser.execute_script("return [...document.querySelectorAll('video')].map(v => v.src.slice(0, 21))")
    assert videos == ["data:video/mp4;base64"] * 2
    text = browser.find_element("tag name", "body").text
    assert "psn_test_resnet" in text
    assert "spin & turn" in text
    assert "Activation maps of 0.mp4" in text  # the first video of the data set that the run was trained on
    assert "Nothing to show here" not in text
    browser.switch_to.frame(browser.find_element("tag name", "iframe"))
    assert len(browser.find_elements("tag name", "circle")) == 9
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_videos_of_one_name_keep_their_own_pictures(other_folder, class_folders, tmp_path):
    videos = [class_folders / name / "0.mp4" for name in CLASSES[:2]]
    (made,) = make_report(load(other_folder), tmp_path, videos, scores=(tmp_path / "a.npz", tmp_path / "b.npz"))
    page = made.path.read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:(?:image/png|video/mp4);base64,([^"]+)"', page)
    assert len(pictures) == len(set(pictures)) == 8
    assert f"Nothing to show here: score file {tmp_path / 'a.npz'} not found" in page


def test_a_part_that_a_model_does_not_allow_says_so_in_the_page(other_folder, tmp_path):
    (made,) = make_report(load(other_folder), tmp_path)
    page = made.path.read_text(encoding="utf-8")
    assert page.count("Nothing to show here: VideoNet has no synthesizer") == 2
    assert page.count("does not say what it was trained on; name the data set, with --dataset NAME") == 2
    assert "no two files of scores were given, as --scores BEFORE.npz AFTER.npz" in page
    assert "<img" not in page
