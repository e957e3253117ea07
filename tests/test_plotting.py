"""Figures: their sizes, and names with characters that mean something to matplotlib."""

from PIL import Image

from timm_video_psn.plotting import new_figure, pixels_of, plain, save_figure


def test_figures_have_the_size_that_was_asked_for(tmp_path):
    figure = new_figure(3, 2)
    figure.subplots().plot([0, 1])
    assert pixels_of(figure).shape == (200, 300, 3)
    with Image.open(save_figure(figure, tmp_path / "new" / "figure.png")) as picture:
        assert (picture.format, picture.size) == ("PNG", (300, 200))


def test_dollar_signs_of_a_name_begin_no_formula():
    figure = new_figure(3, 2)
    figure.text(0, 0, plain("win_$100_lose_$50"))
    (text,) = figure.texts
    assert text.get_window_extent(figure.canvas.get_renderer()).width > 0
    assert not text._preprocess_math(text.get_text())[1]
