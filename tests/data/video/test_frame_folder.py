"""Images named after a template, read as the frames of a video."""

import io

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from tests.miniatures import pictures, write_images
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.frame_folder import FrameFolder, ImageNames, read_image


@pytest.mark.parametrize(
    ("template", "first"),
    [("{:05d}.jpg", 1), ("{:06d}.jpg", 1), ("img_{:05d}.jpg", 1), ("frame{:d}.png", 0), ("a{{b}}{:03d}.jpeg", 5)],
)
def test_names_are_found(tmp_path, template, first):
    write_images(tmp_path, pictures(0, 12), template, first)
    names = ImageNames.found_in(tmp_path)
    assert names.first == first
    assert [names.template.format(number) for number in (1, 12, 123)] == [template.format(n) for n in (1, 12, 123)]


def test_names_may_repeat_that_of_the_folder(tmp_path):
    """As SlowFast extracts Something-Something V2."""
    for number, folder in enumerate(("78687", "78700")):
        write_images(tmp_path / folder, pictures(number), folder + "_{:06d}.png")
    names = ImageNames.found_in(tmp_path / "78687")
    assert names == ImageNames("{folder}_{:06d}.png", 1)
    for number, folder in enumerate(("78687", "78700")):
        assert np.array_equal(names.decode(tmp_path / folder, range), pictures(number))


def test_one_folder_does_not_stand_for_all(tmp_path):
    """Extractors leave empty folders behind, and frames get lost."""
    for name in ("0", "1", "2", "3"):
        write_images(tmp_path / name, pictures(0, 3), "img_{:05d}.png", first=2 if name == "1" else 1)
    for file in (tmp_path / "0").iterdir():
        file.unlink()
    folders = [tmp_path / name for name in ("0", "1", "2", "3")]
    assert ImageNames.found_in_most(folders) == ImageNames("img_{:05d}.png", 1)
    assert ImageNames.found_in_most(folders[:1]) is ImageNames.found_in_most([]) is None


def test_a_folder_without_numbered_images_has_no_names(tmp_path):
    (tmp_path / "cover.jpg").touch()
    (tmp_path / "1.txt").touch()
    assert ImageNames.found_in(tmp_path) is None


def test_frames_are_exact_in_any_order(tmp_path):
    frames = pictures(0)
    write_images(tmp_path, frames, "{:05d}.png")
    names = ImageNames("{:05d}.png", 1)
    assert np.array_equal(names.decode(tmp_path, lambda count: [3, 0, count - 1, 3]), frames[[3, 0, 9, 3]])
    assert np.array_equal(names.decode(tmp_path, lambda count: [count - 1], skip=2), frames[[9]])
    assert np.array_equal(names.decode(tmp_path, lambda count: [count - 1], skip=2, length=3), frames[[4]])


class TestErrors:
    names = ImageNames("{:05d}.png", 1)

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(DecodeError, match="there is no such folder of frames"):
            self.names.decode(tmp_path / "gone", lambda count: [0])

    def test_a_folder_that_the_file_system_does_not_tell_of(self, tmp_path):
        with pytest.raises(DecodeError, match=r"it cannot be reached \(File name too long\)"):
            self.names.decode(tmp_path / ("x" * 300), lambda count: [0])

    def test_a_folder_of_other_images(self, tmp_path):
        write_images(tmp_path, pictures(0), "img_{:05d}.png")
        with pytest.raises(DecodeError, match=r"holds no image 00001.png, the name that the data set"):
            self.names.decode(tmp_path, lambda count: [0])

    def test_more_frames_stated_than_there_are(self, tmp_path):
        write_images(tmp_path, pictures(0), "{:05d}.png")
        with pytest.raises(DecodeError, match=r"image 00011.png cannot be read; its annotation states 11 frames"):
            self.names.decode(tmp_path, lambda count: [count - 1], length=11)

    def test_a_damaged_image(self, tmp_path):
        write_images(tmp_path, pictures(0), "{:05d}.png")
        (tmp_path / "00002.png").write_bytes(b"no image")
        with pytest.raises(DecodeError, match=r"image 00002.png cannot be read \("):
            self.names.decode(tmp_path, lambda count: [1])

    def test_sizes_that_differ(self, tmp_path):
        write_images(tmp_path, pictures(0), "{:05d}.png")
        write_images(tmp_path, pictures(0, 1)[:, :20], "{:05d}.png")
        with pytest.raises(DecodeError, match="its frames differ in size"):
            self.names.decode(tmp_path, lambda count: [0, 1])


class TestPicturesAreWhatViewersShow:
    """In folders in natural order, in numbered folders, and out of shards."""

    @pytest.fixture
    def read(self, tmp_path):
        def read_all(image, name="1.png", **options):
            image.save(tmp_path / name, **options)
            names = ImageNames("{:d}" + (tmp_path / name).suffix, 1)
            content = io.BytesIO((tmp_path / name).read_bytes())
            frames = [
                FrameFolder(tmp_path).read([0])[0],
                names.decode(tmp_path, lambda count: [0])[0],
                read_image(tmp_path, name, content),
            ]
            assert all(np.array_equal(frame, frames[0]) for frame in frames)
            return frames[0]

        return read_all

    def test_of_16_bits(self, read):
        grey = np.array([[0, 255, 256], [32768, 65535, 257]], np.uint16)
        assert read(Image.fromarray(grey))[..., 0].tolist() == [[0, 0, 1], [128, 255, 1]]

    @pytest.mark.parametrize("name", ["1.jpg", "1.png"])
    def test_turned_as_exif_says(self, read, name):
        picture = np.zeros((16, 32, 3), np.uint8)
        picture[:, :16] = 250
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned clockwise by a quarter
        shown = read(Image.fromarray(picture), name, exif=exif)
        assert shown.shape == (32, 16, 3)
        assert shown[:16].mean() > 240
        assert shown[16:].mean() < 10

    def test_of_palettes_grey_and_cmyk(self, read):
        picture = Image.new("RGB", (8, 8), (200, 40, 90))
        assert np.array_equal(read(picture.quantize(4)), np.asarray(picture))
        assert (read(Image.new("L", (8, 8), 77)) == 77).all()
        assert np.abs(read(picture.convert("CMYK"), "1.jpg", quality=100).astype(int) - np.asarray(picture)).max() < 6

    def test_with_an_opaque_alpha_channel(self, read):
        assert (read(Image.new("RGBA", (8, 8), (10, 20, 30, 255))) == (10, 20, 30)).all()

    def test_that_are_transparent_are_refused(self, read):
        with pytest.raises(DecodeError, match=r"image 1.png is transparent in part"):
            read(Image.new("RGBA", (8, 8), (10, 20, 30, 128)))

    def test_that_move_are_refused(self, read):
        first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
        with pytest.raises(DecodeError, match=r"image 1.png is animated; a frame is a single picture"):
            read(first, save_all=True, append_images=[second])


@pytest.mark.parametrize("form", ["EPS", "GIF", "TIFF", "BMP", "WEBP", "PDF", "ICO"])
@pytest.mark.parametrize("name", ["1.jpg", "1.png"])
def test_images_of_other_formats_are_refused_whatever_they_are_called(form, name, tmp_path, monkeypatch):
    Image.new("RGB", (16, 16), "red").save(tmp_path / name, form)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", None)  # calling it would be another error
    for read in (
        lambda: FrameFolder(tmp_path).read([0]),
        lambda: ImageNames("{:d}" + name[1:], 1).decode(tmp_path, lambda count: [0]),
        lambda: read_image(tmp_path, name, io.BytesIO((tmp_path / name).read_bytes())),
    ):
        with pytest.raises(DecodeError, match=f"image {name} cannot be read .*it is neither JPEG nor PNG"):
            read()
