"""Figures: their sizes, and names with characters that mean something to matplotlib."""

import unicodedata

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image

from timm_video_psn.console import printable
from timm_video_psn.plotting import _families_for, add_font, class_colours, new_figure, pixels_of, plain, save_figure


def test_figures_have_the_size_that_was_asked_for(tmp_path):
    figure = new_figure(3, 2)
    figure.subplots().plot([0, 1])
    assert pixels_of(figure).shape == (200, 300, 3)
    with Image.open(save_figure(figure, tmp_path / "new" / "figure.png")) as picture:
        assert (picture.format, picture.size) == ("PNG", (300, 200))


@pytest.mark.parametrize("count", [1, 2, 10, 20])
def test_classes_have_colours_of_their_own(count):
    assert len(set(class_colours(count))) == count
    assert class_colours(21) == [*class_colours(20), class_colours(20)[0]]


NAMES = [
    *("win_$100_lose_$50", r"a\$b\$c", "$" * 60, r"$\frac{1}{0}$", "x^2_y", "100 %", "_hidden", "a_b^{", "<b>&amp;"),
    *("'quoted\"", "two\nlines", "a\tb\r\x1b[31m", "nul\0", "Открывать дверь", "打开门", "문을 열다", "افتح الباب"),
    *(unicodedata.normalize("NFD", "café"), "d\udce4.mp4", "", " ", "\\", "\U0001f600"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_all_kinds_stand_in_figures_as_they_are(name):
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], label=plain(name))
    axes.plot([1, 0], label=plain(name, 8, 2))
    axes.set(title=plain(name), ylabel=plain(name, 8), xticks=[0, 1])
    axes.set_xticklabels([plain(name)] * 2)
    legend = axes.legend()
    figure.suptitle(plain(name))
    assert pixels_of(figure).shape == (200, 300, 3)
    entries = [text.get_text() for text in legend.get_texts()]
    assert len(entries) == sum(map(bool, (plain(name), plain(name, 8, 2))))  # no label, no entry
    shown, is_formula = axes.title._preprocess_math(axes.title.get_text())
    assert (shown.strip(), is_formula) == (printable(name).strip(), False)


@pytest.fixture
def font_of_a_square(tmp_path, monkeypatch):
    """A font that has nothing but a black square for one character."""
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(SQUARE): "square"})
    glyphs = {}
    for name, side in ((".notdef", 0), ("square", 1000)):
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for corner in ((0, side), (side, side), (side, 0)):
            pen.lineTo(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Square", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "square.ttf")
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if "DejaVu" in font.name])
    _families_for.cache_clear()
    yield tmp_path / "square.ttf"
    _families_for.cache_clear()


SQUARE = "\ua000"  # the first syllable of Yi


def test_a_font_is_looked_for_and_its_lack_is_told_of_once(tmp_path, font_of_a_square, caplog, recwarn):
    def black(figure):
        return int((pixels_of(figure).sum(2) == 0).sum())

    def with_title():
        figure = new_figure(3, 2)
        figure.suptitle(f"class {SQUARE * 5}", fontsize=20)
        return figure

    save_figure(with_title(), tmp_path / "boxes.png")
    (message,) = caplog.messages
    assert message.startswith(f"no installed font has {SQUARE} (YI): boxes.png shows boxes instead; install")
    boxes, text = black(with_title()), black(new_figure(3, 2))
    caplog.clear()
    add_font(font_of_a_square)
    squares = black(with_title())
    assert text < boxes < squares - 1000
    assert caplog.messages == [str(warning.message) for warning in recwarn] == []


def test_what_is_no_font_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"font .*gone.ttf: there is no such file; name a .ttf"):
        add_font(tmp_path / "gone.ttf")
    (tmp_path / "no.ttf").write_text("no font")
    with pytest.raises(ValueError, match=r"font .*no.ttf cannot be read \(.*\); name a .ttf"):
        add_font(tmp_path / "no.ttf")
