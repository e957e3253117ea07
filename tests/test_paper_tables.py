"""docs/paper.md is what benchmarks/psn_paper_tables.py prints."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("psn_paper_tables", ROOT / "benchmarks" / "psn_paper_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_document_is_what_the_script_prints(script, capsys, costly):
    script.main()
    assert capsys.readouterr().out == (ROOT / "docs" / "paper.md").read_text(encoding="utf-8"), (
        "run: python benchmarks/psn_paper_tables.py > docs/paper.md"
    )


def test_a_difference_without_a_sentence_and_a_sentence_without_a_difference_stop_the_script(script):
    row = script.Row("TSN", "23.87", "tsn_resnet50", {})
    with pytest.raises(SystemExit, match="TSN: differs and has no note"):
        list(script.parameter_rows("method", [row]))
    row = script.Row("TSN", "23.86", "tsn_resnet50", {}, "a reason")
    with pytest.raises(SystemExit, match="TSN: agrees and has a note"):
        list(script.parameter_rows("method", [row]))


def test_a_row_of_a_model_that_does_not_exist_is_an_error(script):
    row = script.Row("Nobody", "1.00", "no_such_model", {})
    with pytest.raises(RuntimeError, match="no_such_model"):
        list(script.parameter_rows("method", [row]))
