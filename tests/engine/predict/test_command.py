"""predict_video.py on files, folders and windows, through its main function."""

import _thread
import csv
import http.server
import json
import shutil
import signal
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from timm_video_psn.__main__ import predict as predict_main
from timm_video_psn.command_line.predict import parse_predict_options
from timm_video_psn.data import FrameStream, VideoReader, write_video
from timm_video_psn.data.video import stream as video_stream
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.predict.command import expand_inputs
from timm_video_psn.engine.trained_model import TrainedModel

CLIPS = Path(__file__).parents[4] / "shared" / "clips"


@pytest.fixture
def videos(tmp_path):
    """A folder with three videos of 3 seconds, one of them in a folder below, and a file that is not a video."""
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("b.mp4", "a.mp4", "deep/c.mp4"):
        write_video(folder / name, rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8), fps=10)
    (folder / "notes.txt").write_text("not a video")
    return folder


def json_lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_folder_of_videos_is_predicted_one_by_one(videos, model_folder, capsys, tmp_path):
    table = tmp_path / "table.csv"
    argv = [str(videos), "--model", model_folder, "--json", "--csv", str(table), "--topk", "2", "--batch-size", "2"]
    assert predict_main([*argv, "--workers", "2"]) == 0
    answers = json_lines(capsys)
    assert [answer["file"] for answer in answers] == [str(videos / name) for name in ("a.mp4", "b.mp4", "deep/c.mp4")]
    model = load(model_folder)
    for answer in answers:
        alone = model.predict(answer["file"], 2).top
        assert [item["label"] for item in answer["top"]] == [item.label for item in alone]
        assert [item["probability"] for item in answer["top"]] == pytest.approx([item.probability for item in alone])
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["rank"], row["start_sec"]) for row in rows[:2]] == [
        (str(videos / "a.mp4"), "1", ""),
        (str(videos / "a.mp4"), "2", ""),
    ]
    assert len(rows) == 6


def test_an_unreadable_video_among_others_is_named_and_the_others_are_answered(videos, model_folder, capsys, tmp_path):
    (videos / "a.mp4").write_bytes(b"")
    table = tmp_path / "table.csv"
    assert predict_main([str(videos), "--model", model_folder, "--csv", str(table)]) == 1
    captured = capsys.readouterr()
    assert "cannot decode" in captured.err
    assert "1 of 3 inputs could not be read" in captured.err
    assert str(videos / "b.mp4") in captured.out.splitlines()
    assert "the file is empty" in table.read_text()
    for name in ("b.mp4", "deep/c.mp4"):
        (videos / name).write_bytes(b"no video")
    assert predict_main([str(videos), "--model", model_folder]) == 2


def test_labels_of_strangers_forge_no_line_and_no_formula(videos, model_folder, capsys, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "best")
    config = json.loads((folder / "config.json").read_text())
    names = [f"={number}+1\x1b[2A\n99.00%  forged" for number in range(5)]
    (folder / "config.json").write_text(json.dumps({**config, "label_names": names}))
    table, copy = tmp_path / "table.csv", tmp_path / "copy.mp4"
    for more in ([], ["--window", "2"], ["--video-out", str(copy)]):
        argv = [str(videos / "a.mp4"), "--model", str(folder), "--csv", str(table), *more]
        assert predict_main(argv) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert r"=0+1\x1b[2A\n99.00%  forged" in out
        assert not any(line.startswith("99.00%") for line in out.splitlines())
        with table.open(newline="") as file:
            assert all(row["label"].startswith("'=") for row in csv.DictReader(file))
    assert r"\x1b[2A\n99.00%" in str(load(folder).predict(videos / "a.mp4"))


@pytest.mark.parametrize("sec", [[], ["--stride", "1"]])
def test_windows_of_a_video(videos, model_folder, capsys, tmp_path, sec):
    table, copy = tmp_path / "table.csv", tmp_path / "copy.mp4"
    argv = [str(videos / "a.mp4"), "--model", model_folder, "--window", "2", *sec, "--topk", "1"]
    assert predict_main([*argv, "--csv", str(table), "--video-out", str(copy)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" s ")[0].split() for line in lines] == [["0.00", "-", "2.00"], ["1.00", "-", "3.00"]]
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["start_sec"], row["end_sec"]) for row in rows] == [("0.0", "2.0"), ("1.0", "3.0")]
    with VideoReader(copy) as reader:
        assert reader.num_frames == 30
    assert predict_main([*argv, "--json", "--duration", "2"]) == 0
    assert [(answer["start_sec"], answer["end_sec"]) for answer in json_lines(capsys)] == [(0, 2)]


@pytest.fixture
def silent_stream(tmp_path, monkeypatch):
    """The URL of a stream that sends 3.6 seconds, and then nothing."""
    monkeypatch.setattr(video_stream, "_SILENT_SEC", 2)
    over = threading.Event()
    with av.open(str(tmp_path / "video.ts"), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=10, options={"tune": "zerolatency"})
        stream.width = stream.height = 32
        for number in range(36):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 7 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    video = (tmp_path / "video.ts").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(video)
            self.wfile.flush()
            over.wait(60)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/video.ts"
        over.set()
        server.shutdown()


def test_a_stream_that_falls_silent_ends_and_its_answers_are_kept(
    silent_stream, model_folder, capsys, tmp_path, costly
):
    url, table = silent_stream, tmp_path / "table.csv"
    assert predict_main([url, "--model", model_folder, "--json", "--topk", "1", "--csv", str(table)]) == 2
    captured = capsys.readouterr()
    assert f"error: cannot decode {url}: it broke off, or sent nothing for 2 s" in captured.err
    assert len(captured.err.splitlines()) == 2
    *answers, last = [json.loads(line) for line in captured.out.splitlines()]
    assert [(answer["start_sec"], answer["end_sec"]) for answer in answers] == [(0, 2), (1, 3)]
    assert last["error"].startswith("it broke off")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["start_sec"], row["rank"]) for row in rows] == [("0.0", "1"), ("1.0", "1"), ("", "")]
    assert rows[-1]["error"] == last["error"]


@pytest.fixture
def interruptible():
    """Interrupts are heard, though shells have jobs in the background ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_stream_as_its_end_would(silent_stream, model_folder, capsys, tmp_path, monkeypatch):
    table, said, predict_clips = tmp_path / "table.csv", [], TrainedModel.predict_clips

    def predict_and_press(self, *arguments):
        said.append(predict_clips(self, *arguments))
        if len(said) == 2:
            _thread.interrupt_main()
        return said[-1]

    monkeypatch.setattr(TrainedModel, "predict_clips", predict_and_press)
    assert predict_main([silent_stream, "--model", model_folder, "--topk", "1", "--csv", str(table)]) == 0
    captured = capsys.readouterr()
    assert captured.err == "device cpu, float32\n"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["start_sec"] == "0.0"
    assert len(rows) == len(captured.out.splitlines()) <= 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--video-out", "a.mp4"], "--video-out a.mp4 would overwrite the input"),
        (["--csv", "deep/../a.mp4"], "would overwrite the input"),
        (["--csv", "deep"], "--csv deep would overwrite a folder"),
        (["--csv", "x.mp4", "--video-out", "./x.mp4"], "--video-out x.mp4 would overwrite the file of --csv"),
        (["--video-out", "none/x.mp4"], "--video-out none/x.mp4: there is no folder none"),
        (["--csv", "none/x.csv"], "--csv none/x.csv: there is no folder none"),
    ],
)
def test_nothing_is_overwritten_and_nothing_predicted_in_vain(videos, model_folder, capsys, monkeypatch, more, message):
    monkeypatch.chdir(videos)
    before = (videos / "a.mp4").read_bytes()
    assert predict_main([str(videos / "a.mp4"), "--model", model_folder, *more]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert (videos / "a.mp4").read_bytes() == before
    assert sorted(path.name for path in videos.iterdir()) == ["a.mp4", "b.mp4", "deep", "notes.txt"]


def test_the_copy_is_an_mp4(capsys):
    with pytest.raises(SystemExit):
        predict_main(["x.mp4", "--model", "m", "--video-out", "x.avi"])
    assert "the copy is an mp4; end the name in .mp4" in capsys.readouterr().err


def test_a_whole_video_can_be_annotated(videos, model_folder, tmp_path):
    copy = tmp_path / "copy.mp4"
    assert predict_main([str(videos / "a.mp4"), "--model", model_folder, "--video-out", str(copy)]) == 0
    with VideoReader(copy) as reader:
        assert reader.num_frames == 30


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--video-out", "x.mp4"], "copies one video file; found 3 inputs"),
        (["--csv", "no/such/folder/x.csv"], "there is no folder no/such/folder"),
    ],
)
def test_what_cannot_be_done_is_said(videos, model_folder, capsys, more, message):
    assert predict_main([str(videos), "--model", model_folder, *more]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--window", "2"], ["--video-out", "copy.mp4"]])
def test_images_without_a_rate_are_refused_before_anything_is_predicted(tmp_path, model_folder, capsys, more):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "1.png")
    assert predict_main([str(tmp_path), "--model", model_folder, *more]) == 2
    captured = capsys.readouterr()
    assert "without a frame rate; give one, for example --fps 12" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--topk", "0"), ("--window", "0"), ("--batch-size", "0"), ("--fps", "0"), ("--window", "inf"), ("--fps", "nan")],
)
def test_lengths_and_numbers_must_be_positive_and_finite(flag, value, capsys):
    with pytest.raises(SystemExit):
        predict_main(["x.mp4", "--model", "m", flag, value])
    assert "must be above 0, and finite" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--stride", "--duration"])
def test_what_windows_alone_obey_is_not_passed_over(flag, capsys):
    with pytest.raises(SystemExit):
        predict_main(["x.mp4", "--model", "m", flag, "1"])
    assert f"{flag} belongs to windows" in capsys.readouterr().err
    assert parse_predict_options(["0", "--model", "m", flag, "1"]).window is None  # a camera has windows always


@pytest.mark.skipif(not CLIPS.is_dir(), reason="no folder shared/clips with real videos beside the repository")
def test_real_clips_are_predicted_whole_in_windows_and_annotated(model_folder, capsys, tmp_path, costly):
    model = load(model_folder)
    clips = expand_inputs([str(CLIPS)])
    assert len(clips) == 4
    assert predict_main([str(CLIPS), "--model", model_folder, "--json", "--workers", "2"]) == 0
    for clip, answer in zip(clips, json_lines(capsys), strict=True):
        assert answer["file"] == clip
        (first, *_), alone = answer["top"], model.predict(clip, 1).top[0]
        assert (first["label"], first["probability"]) == (alone.label, pytest.approx(alone.probability, abs=1e-5))
    for clip in clips:
        copy = tmp_path / "copy.mp4"
        argv = [clip, "--model", model_folder, "--window", "2", "--duration", "3", "--video-out", str(copy)]
        assert predict_main([*argv, "--json"]) == 0
        spans = [(answer["start_sec"], answer["end_sec"]) for answer in json_lines(capsys)]
        assert spans[0] == (0, 2)
        with FrameStream(clip) as stream, VideoReader(copy) as reader:
            times = [frame.time_sec for frame in stream if frame.time_sec < 3]
            assert reader.num_frames == len(times)
        assert spans[-1][1] == pytest.approx(times[-1], abs=0.1)


def test_hidden_files_of_a_folder_are_no_videos(videos):
    (videos / "._a.mp4").write_bytes(b"of macOS")
    (videos / ".trash").mkdir()
    shutil.copy(videos / "a.mp4", videos / ".trash")
    assert expand_inputs([str(videos)]) == [str(videos / name) for name in ("a.mp4", "b.mp4", "deep/c.mp4")]
    assert expand_inputs([str(videos / ".trash")]) == [str(videos / ".trash" / "a.mp4")]  # asked for by its name


def test_a_folder_with_a_link_to_itself_has_the_videos_that_training_finds(videos):
    (videos / "deep" / "up").symlink_to("..")
    (videos / "frames").mkdir()
    (videos / "frames" / "1.jpg").write_bytes(b"")
    assert expand_inputs([str(videos)]) == [str(videos / name) for name in ("a.mp4", "b.mp4", "deep/c.mp4", "frames")]


def test_folders_are_told_apart(videos, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    shutil.copy(videos / "notes.txt", frames)
    with pytest.raises(ValueError, match=r"neither frame images nor videos; files passed over: 1 \.txt; accepted"):
        expand_inputs([str(frames)])
    (frames / "1.jpg").write_bytes(b"")
    assert expand_inputs([str(frames), "0", "rtsp://x"]) == [str(frames), "0", "rtsp://x"]
    (videos / "cover.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="holds images and 3 videos"):
        expand_inputs([str(videos)])
