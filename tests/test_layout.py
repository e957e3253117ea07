"""The rules of the house, read from the files: who imports whom, how long, how deep, and where the tests are."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "timm_video_psn"
ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / PACKAGE).rglob("*.py"))
SCRIPTS = sorted(ROOT.glob("*.py"))
MAX_LINES = 400
NO_JOB = {"utils", "util", "helpers", "helper", "misc", "common", "tools"}

TOP = "the package itself"
# part of the package -> the other parts that it may import
ALLOWED = {
    "surgery": set(),
    "layers": set(),
    "data": set(),
    "version": set(),
    "losses": {"layers"},
    "freezing": {"layers"},
    "interactions": {"layers"},
    "models": {"surgery", "layers"},
    "engine": {"losses", "interactions", "layers", "models", "data", "version", TOP},
    # the engine for what it already knows of a trained model: Predictor, Precision, and files that appear whole
    "insights": {"layers", "interactions", "models", "data", "engine"},
    TOP: {"surgery", "layers", "losses", "freezing", "interactions", "models", "version"},
}

# modules that no test file mirrors -> the test file that covers them
COVERED_BY = {
    "surgery/report": "surgery/test_inject",
    "layers/enhanced_residual": "layers/test_receptive_field",
    "layers/temporal_module": "layers/test_registry",
    "models/place": "models/test_backbones",
    "models/psn": "models/test_contract",
    "models/video_baselines": "models/test_contract",
    "models/weights": "hub/test_loading",
    "data/video_file": "data/test_decode",
    "data/video_places": "data/test_something_something",
    "data/advice": "data/test_prepare",
    "data/contact_sheet": "data/test_prepare",
    "data/health": "data/test_prepare",
    "data/reencode": "data/test_prepare",
    "data/shard_index": "data/test_shard_loader",
    "data/shard_stream": "data/test_shard_loader",
    "engine/build": "engine/test_train",
    "engine/curves": "engine/test_run_folder",
    "engine/data_report": "engine/test_train",
    "engine/interrupt": "test_train_video",
    "engine/precision": "engine/test_evaluate",
    "engine/predict": "engine/test_train",
    "engine/model_folder": "test_validate_video",
    "engine/result_files": "test_validate_video",
    "engine/result_text": "test_validate_video",
    "engine/score_files": "test_validate_video",
    "engine/validate_options": "test_validate_video",
    "insights/__main__": "insights/test_command_line",
    "insights/commands": "insights/test_command_line",
    "insights/viewer": "insights/test_command_line",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part_of(path: Path) -> str:
    """The folder or file of the package's top level that a source belongs to."""
    first = path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")
    return TOP if first == "__init__" else first


def imports(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    """All of them, also those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))


def imported_parts(path: Path) -> set[str]:
    """The parts of the package that a file imports."""
    parts = set()
    for node in imports(path):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif node.module == PACKAGE:  # a part, or a public name
            modules = [f"{PACKAGE}.{alias.name}" if alias.name in ALLOWED else PACKAGE for alias in node.names]
        else:
            modules = [node.module or ""]
        for module in modules:
            package, _, rest = module.partition(".")
            if package == PACKAGE:
                parts.add(rest.partition(".")[0] or TOP)
    return parts


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_go_down_only(path):
    part = part_of(path)
    assert imported_parts(path) - {part} <= ALLOWED[part]


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_scripts_import_the_engine_only(path):
    assert imported_parts(path) <= {"engine", TOP}


def test_every_part_has_a_rule():
    assert {part_of(path) for path in SOURCES} == set(ALLOWED)


def test_the_rules_have_no_cycle():
    """Apart from the engine, which registers the models by importing the package itself."""
    rest = {part: allowed - {TOP} for part, allowed in ALLOWED.items()}
    while rest:
        free = {part for part, allowed in rest.items() if not allowed & rest.keys()}
        assert free, rest
        rest = {part: allowed for part, allowed in rest.items() if part not in free}


def test_the_check_sees_a_wrong_import(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(
        f"import {PACKAGE}.data.decode\nfrom {PACKAGE} import models, inject\n"
        f"def late():\n    from {PACKAGE}.engine.train import Trainer\n"
    )
    assert imported_parts(path) == {"data", "models", TOP, "engine"}


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS], ids=name_of)
def test_imports_are_absolute_and_name_what_they_take(path):
    for node in imports(path):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            assert all(alias.name != "*" for alias in node.names), f"star import in line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_are_short_and_named_for_their_job(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    assert path.stem not in NO_JOB


def test_folders_are_one_level_deep():
    assert [name_of(path) for path in SOURCES if len(path.relative_to(ROOT / PACKAGE).parts) > 2] == []


def test_every_module_has_its_tests():
    missing, needless = [], []
    for path in SOURCES:
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        if len(parts) < 2 or parts[1] == "__init__":
            continue
        module = "/".join(parts)
        mirrored = (ROOT / "tests" / parts[0] / f"test_{parts[1]}.py").exists()
        if not mirrored and module not in COVERED_BY:
            missing.append(module)
        if mirrored and module in COVERED_BY:
            needless.append(module)
    assert missing == [], "write the test file, or say in COVERED_BY which one covers it"
    assert needless == [], "these have test files of their own: take them out of COVERED_BY"


@pytest.mark.parametrize(("module", "test"), COVERED_BY.items())
def test_the_table_of_exceptions_names_files_that_exist(module, test):
    assert (ROOT / PACKAGE / f"{module}.py").exists()
    assert (ROOT / "tests" / f"{test}.py").exists()


def test_importing_the_package_costs_little_more_than_timm_and_loads_nothing_heavy():
    measure = (
        "import sys, time; start = time.perf_counter(); import timm; middle = time.perf_counter(); "
        f"before = set(sys.modules); import {PACKAGE}; end = time.perf_counter(); "
        "print(middle - start, end - middle, *({'matplotlib', 'av', 'yaml'} & (set(sys.modules) - before)))"
    )
    runs = []
    for _ in range(3):
        output = subprocess.run([sys.executable, "-c", measure], capture_output=True, text=True, check=True).stdout
        timm_sec, ours_sec, *heavy = output.split()
        assert heavy == []
        runs.append((float(timm_sec), float(ours_sec)))
    timm_sec, ours_sec = (statistics.median(column) for column in zip(*runs, strict=True))
    assert ours_sec <= 0.35 * timm_sec + 0.3
