"""Every reader on damaged annotations: file and line of what is wrong, twenty at once, and never anything but that."""

import json
import re

import numpy as np
import pytest

from tests import miniatures
from timm_video_psn.data.registry import read_index

DATASETS = ("sthv1", "sthv2", "k400", "diving48", "list")
WRONG = range(5, 30)  # items, counted from 0


def make(dataset, root):
    return miniatures.frame_lists(root) if dataset == "list" else getattr(miniatures, dataset)(root)


def write_wrong(dataset, root):
    """A training file of 40 items, 25 of them wrong; gives the file and the lines of those."""
    if dataset == "sthv1":
        path, good, bad = root / "something-something-v1-train.csv", f"100218;{miniatures.CLASSES[0]}", "100218"
    elif dataset == "k400":
        path, good, bad = root / "kinetics-400_train.csv", "abseiling,tr-_1abcd00,0,10,train", "abseiling,x,0,10,train"
    elif dataset == "list":
        path, good, bad = root / "train_videofolder.txt", "train_0_0 10 0", "train_0_0 ten 0 1 2 3 4"
    elif dataset == "sthv2":
        path = root / "something-something-v2-train.json"
        good, bad = {"id": "78687", "template": miniatures.TEMPLATES[1]}, {"id": "78687", "template": "Flying"}
    else:
        path = root / "Diving48_V2_train.json"
        good, bad = {"vid_name": "_8Vy3dlHg2w_00000", "label": 0}, {"vid_name": "_8Vy3dlHg2w_00000", "label": 48}
    items = [bad if number in WRONG else good for number in range(40)]
    if path.suffix == ".json":
        path.write_text("[\n" + ",\n".join(map(json.dumps, items)) + "\n]\n")
        return path, [number + 2 for number in WRONG]
    header = ["label,youtube_id,time_start,time_end,split"] if dataset == "k400" else []
    path.write_text("\n".join([*header, *items]) + "\n")
    return path, [number + 1 + len(header) for number in WRONG]


def test_what_lies_where_annotations_are_looked_for_is_named(tmp_path):
    root = miniatures.sthv2(tmp_path)
    (root / "labels").mkdir(exist_ok=True)
    (root / "something-something-v2-validation.json").rename(root / "labels" / "val.json")
    with pytest.raises(FileNotFoundError, match=r"found: .*\blabels/val\.json.*; name it with --val-list"):
        read_index("sthv2", root, "val")


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_is_wrong_is_said_by_file_and_line_twenty_at_once(dataset, tmp_path):
    root = make(dataset, tmp_path)
    path, lines = write_wrong(dataset, root)
    with pytest.raises(ValueError, match=f"25 malformed lines in {re.escape(str(path))}:") as error:
        read_index(dataset, root, "train")
    message = str(error.value).splitlines()
    named = [re.match(rf"  {re.escape(str(path))}:(\d+): \S", line) for line in message[1:21]]
    assert [int(match[1]) for match in named] == lines[:20]
    assert message[21:] == ["  and 5 more", "fix or remove them"]


def mutations(content, rng):
    """Bytes of a file after a small accident or a large one."""
    place, length = int(rng.integers(0, len(content))), int(rng.integers(1, 40))
    kind = rng.integers(6)
    if kind == 0:
        return content[:place]
    if kind == 1:
        changed = bytearray(content)
        for other in rng.integers(0, len(content), 4):
            changed[other] = rng.integers(0, 256)
        return bytes(changed)
    if kind == 2:
        return content[:place] + content[place + length :]
    if kind == 3:
        return rng.bytes(length)
    if kind == 4:
        return content[:place] + content[max(0, place - length) :]
    scraps = (b'"', b"\n", b";", b",", b"[", b"{}", b"null", b"\0", b" 99999999999999999999", b"-5", b"\\", b"NaN,")
    return content[:place] + scraps[rng.integers(len(scraps))] + content[place:]


@pytest.mark.parametrize("dataset", DATASETS)
def test_damaged_annotations_are_read_or_refused_in_words_that_name_the_data(dataset, tmp_path):
    root, rng, refusals = make(dataset, tmp_path), np.random.default_rng(0), []
    files = sorted(path for path in root.rglob("*") if path.suffix in (".csv", ".json", ".txt"))
    splits = ("train", "val", "test") if dataset.startswith("sthv") else ("train", "val")
    for number in range(60):
        path = files[number % len(files)]
        content = path.read_bytes()
        path.write_bytes(mutations(content, rng))
        for split in splits:
            try:
                assert len(read_index(dataset, root, split)) > 0
            except (ValueError, OSError) as error:
                refusals.append(str(error))
        path.write_bytes(content)
    assert len(refusals) > 10
    assert [refusal for refusal in refusals if str(root) not in refusal] == []


@pytest.mark.parametrize("dataset", [name for name in DATASETS if name != "list"])
def test_a_file_that_is_no_text_is_named(dataset, tmp_path):
    root = make(dataset, tmp_path)
    path, _ = write_wrong(dataset, root)
    path.write_bytes(path.read_bytes()[:90] + b"\xff\xfe" + path.read_bytes()[90:])
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} is not UTF-8 text \(byte 90\); save it as UTF-8"):
        read_index(dataset, root, "train")


def test_a_lost_quotation_mark_is_found_at_its_line_and_swallows_no_other(tmp_path):
    root = miniatures.k400(tmp_path)
    path, good = root / "kinetics-400_train.csv", "abseiling,tr-_1abcd00,0,10,train"
    lines = ["label,youtube_id,time_start,time_end,split", good, f'"{good}', "", *[good] * 5, '"abseiling"x,a']
    path.write_text("\r\n".join(lines) + "\r\n")
    with pytest.raises(ValueError, match="2 malformed lines") as error:
        read_index("k400", root, "train")
    for line in (3, 10):
        assert re.search(
            rf"{re.escape(str(path))}:{line}: '\"absei.*; are its quotation marks in pairs\?", str(error.value)
        )
    path.write_text("\r\n".join([*lines[:2], *lines[4:-1]]))
    assert len(read_index("k400", root, "train")) == 6


def test_wrong_answers_to_a_test_split_are_told_of_the_file_of_answers(tmp_path):
    root = miniatures.sthv2(tmp_path, first_release=False)
    path = next(root.rglob("test-answers.csv"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].replace("ing", "ng"), *lines[3:]]) + "\n")
    with pytest.raises(
        ValueError, match=r"none of the data set's \(they are named in labels.json\); nearest: "
    ) as error:
        read_index("sthv2", root, "test")
    assert f"{path}:3: class " in str(error.value)
    path.write_text("\n".join(lines[:2]) + "\n")
    assert (read_index("sthv2", root, "test").labels >= 0).tolist() == [True, True, False, False]
