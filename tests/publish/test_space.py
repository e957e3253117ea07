"""The app of the Space, as a process that a real browser visits."""

import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import SpaceCard

import timm_video_psn  # noqa: F401  # registers the models
from tests.browser import requested_hosts, require_browser, wait_for
from timm_video_psn.data import MOTION_CLASSES, motion_clip, write_video
from timm_video_psn.engine.checkpoint import export_model
from timm_video_psn.engine.load_model import load

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "hub" / "space"
FRAMES = 6
START_SEC = 120
CUT_OFF = """return [...document.querySelectorAll("#frames *")].some(part =>
    getComputedStyle(part).overflowY !== "visible" && part.scrollHeight > part.clientHeight + 2)
"""
BELOW = """const box = document.querySelector("#frames").getBoundingClientRect();
return box.bottom - Math.max(...[...document.querySelectorAll("#frames img")].map(
    image => image.closest("button").getBoundingClientRect().bottom))
"""
BUTTONS = ("css selector", "#video button")
# Runs in the app's process before anything else, and writes down whom it asks for or connects to.
WATCH = """
import sys
def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.connect"):
        host = args[0] if event == "socket.getaddrinfo" else (args[1][0] if isinstance(args[1], tuple) else "")
        with open({log!r}, "a") as file:
            file.write(f"{{host}}\\n")
sys.addaudithook(watch)

import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model folder with the twelve classes of the motion data."""
    folder = tmp_path_factory.mktemp("model") / "best"
    kwargs = {"num_frames": FRAMES, "expand_init": 1.0}
    torch.manual_seed(0)
    net = timm.create_model("psn_test_resnet", num_classes=len(MOTION_CLASSES), **kwargs)
    cfg = {"input_size": (3, 64, 64), "crop_pct": 64 / 72, "crop_mode": "center", "interpolation": "bilinear"}
    cfg |= {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    export_model(net, folder, {"label_names": list(MOTION_CLASSES), "pretrained_cfg": cfg}, kwargs)
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "slide.mp4"
    write_video(path, motion_clip(0, np.random.default_rng(3)))
    return path


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Path:
    """The hosts that the app's process asked for, a line each."""
    return tmp_path_factory.mktemp("watch") / "hosts.txt"


@pytest.fixture(scope="module")
def app(model, asked) -> Iterator[str]:
    """The address of the running app."""
    require_browser("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (asked.parent / "watch.py").write_text(WATCH.format(log=str(asked)))
    command = [sys.executable, asked.parent / "watch.py", SPACE / "app.py", "--model", model, "--port", port]
    with (
        (asked.parent / "app.log").open("w+") as log,
        subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}/"
            wait_until_up(url, process, log)
            yield url
        finally:
            process.kill()


def wait_until_up(url: str, process: subprocess.Popen, log) -> None:
    until = time.monotonic() + START_SEC
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None:
                break
            time.sleep(0.2)
    log.seek(0)
    pytest.fail(f"the app did not start; exit code {process.poll()}:\n{log.read()}")


def find(browser, selector: str):
    return wait_for(browser, lambda driver: driver.find_elements("css selector", selector))


def test_five_classes_of_an_uploaded_video_are_those_of_the_predictor(app, browser, model, video, asked):
    browser.get(app)
    find(browser, "#video input[type=file]")[0].send_keys(str(video))
    expected = load(model).predict(video).top
    wait_for(browser, lambda driver: expected[-1].label in driver.find_element("css selector", "#shares").text)
    text = browser.find_element("css selector", "#shares").text
    for item in expected:
        assert re.search(rf"^{item.label}\n{item.probability:.0%}$", text, re.MULTILINE), text
    assert sum(name in text for name in MOTION_CLASSES) == 5

    captions = [f"frame {index}" for index in (2, 6, 10, 14, 18, 22)]  # the middles of six parts of 24 frames
    wait_for(browser, lambda driver: len(driver.find_elements("css selector", "#frames img")) == FRAMES)
    shown = browser.find_element("css selector", "#frames").text
    assert [caption for caption in captions if caption in shown] == captions, shown
    assert not browser.execute_script(CUT_OFF)
    tabs = browser.find_elements("css selector", "button[role=tab]")
    assert tabs[-1].text == "Where it looked"
    tabs[-1].click()
    wait_for(browser, lambda driver: len(driver.find_elements("css selector", "#activation img")) == FRAMES)

    assert requested_hosts(browser) == {"127.0.0.1"}
    assert set(asked.read_text().split()) == {"127.0.0.1"}  # gradio asks whether its own page is up


def test_an_example_clip_is_labelled_and_the_gallery_is_as_high_as_its_pictures(app, browser, model):
    browser.get(app)
    clips = wait_for(browser, lambda driver: driver.find_elements("css selector", "#examples button, #examples td"))
    assert len(clips) >= len(list((SPACE / "examples").glob("*.mp4"))) > 0
    clips[0].click()
    expected = load(model).predict(sorted((SPACE / "examples").glob("*.mp4"))[0]).top
    wait_for(browser, lambda driver: expected[0].label in driver.find_element("css selector", "#shares").text)
    wait_for(browser, lambda driver: len(driver.find_elements("css selector", "#frames img")) == FRAMES)
    assert not browser.execute_script(CUT_OFF)
    below = browser.execute_script(BELOW)  # the space between the last caption and the end of the gallery
    assert 0 <= below < 60, below


def test_an_upload_that_is_no_video_is_a_message_and_the_next_one_is_labelled(app, browser, video, tmp_path):
    wrong = tmp_path / "holiday.mp4"
    wrong.write_bytes(b"no video at all" * 1000)
    browser.get(app)
    find(browser, "#video input[type=file]")[0].send_keys(str(wrong))
    field = find(browser, "#problem textarea")[0]
    message = wait_for(browser, lambda driver: field.get_attribute("value"))
    assert message.startswith("holiday.mp4 cannot be read as a video: it is not a video")
    assert not any(name in browser.find_element("css selector", "#shares").text for name in MOTION_CLASSES)

    browser.get(app)
    find(browser, "#video input[type=file]")[0].send_keys(str(video))
    wait_for(browser, lambda driver: "%" in driver.find_element("css selector", "#shares").text)
    assert browser.find_elements("css selector", "#problem textarea") == []


def described(button) -> str:
    return f"{button.get_attribute('aria-label')} {button.text}"


def test_a_clip_recorded_with_the_camera_is_labelled(app, browser):
    def press(name: str) -> None:
        wait_for(browser, lambda driver: [b for b in driver.find_elements(*BUTTONS) if name in described(b)])[0].click()

    def answered(driver) -> bool | None:
        """Whether five classes came, or a problem was named; None before."""
        if driver.find_element("css selector", "#shares").text.count("%") == 5:
            return True
        return False if driver.find_elements("css selector", "#problem textarea") else None

    for seconds in (3, 6, 12):  # on a busy machine a browser may record not one frame
        browser.get(app)
        press("Capture from camera")
        press("Access Webcam")
        press("Record")
        time.sleep(seconds)
        press("Stop")
        wait_for(browser, lambda driver: answered(driver) is not None)
        if answered(browser):
            break
    assert answered(browser)
    wait_for(browser, lambda driver: len(driver.find_elements("css selector", "#frames img")) == FRAMES)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The app's file as a module."""
    pytest.importorskip("gradio")
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["space_app"] = module  # where its dataclass looks
    spec.loader.exec_module(module)
    return module


def test_a_model_folder_of_a_stranger_is_refused_in_a_sentence(script, model, capsys, tmp_path):
    folder = shutil.copytree(model, tmp_path / "best")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "label_names": ["one"]}))
    assert script.main(["--model", str(folder)]) == 2
    told = capsys.readouterr().err
    assert (
        f"{folder / 'config.json'} does not describe a model of timm: label_names has 1 names, num_classes is 12"
        in told
    )


def test_without_a_model_it_says_how_to_name_one(script, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("MODEL", raising=False)
    with pytest.raises(SystemExit):
        script.main([])
    assert "no model; give --model best/, or set MODEL" in capsys.readouterr().err
    monkeypatch.setenv("MODEL", str(tmp_path))
    assert script.main([]) == 2
    assert "is not a model folder: it has no config.json" in capsys.readouterr().err


def test_the_card_and_the_pins_agree_with_the_package():
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    card = SpaceCard.load(SPACE / "README.md", ignore_metadata_errors=False)
    lines = [line for line in (SPACE / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert card.data.sdk == "gradio"
    assert card.data.sdk_version == pins.pop("gradio")
    assert (SPACE / card.data.app_file).is_file()
    assert len(card.data.short_description) <= 60  # what the Hub shows
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=]", item)[0] for item in project["dependencies"]}
    assert pins.keys() == needed
