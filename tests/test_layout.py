"""The rules of the house, read from the files: who imports whom, how long, how deep, and where the tests are."""

import ast
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "timm_video_psn"
ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / PACKAGE).rglob("*.py"))
SCRIPTS = sorted(ROOT.glob("*.py"))
MAX_LINES = 400
MAX_FILES = 15
DISTRIBUTION = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
}  # where its name differs from the module's
BROUGHT_ALONG = {"scipy": "scikit-learn"}  # by which of the dependencies
NO_JOB = {"utils", "util", "helpers", "helper", "misc", "common", "tools"}

# The floors of the house, from the ground up: a file may import from its own floor and from those that it names.
# The rooms of data/ and engine/ are floors of their own.
GROUND = {"files", "console", "version", "plotting"}
VIDEO = {"data/video", *GROUND}
DATASETS = {"data/datasets", "data/parallel", *VIDEO}
CLIPS = {"data/clips", *DATASETS}
SHARDS = {"data/shards", *CLIPS}
DATA = {"data", "data/registry", "data/loaders", *SHARDS}
LAYERS = {"layers", *GROUND}
MODELS = {"models", "surgery", "saved_config", "hub_files", *LAYERS}
ENGINE = {"engine", "deploy", "interactions", "losses", "freezing", *MODELS, *DATA}
ALLOWED = {
    "version": set(),
    "files": set(),
    "console": set(),
    "plotting": {"files", "console"},
    "saved_config": {"console"},
    "hub_files": {"saved_config"},
    "surgery": GROUND,
    "layers": LAYERS,
    "data/parallel": GROUND,
    "data/video": VIDEO,
    "data/datasets": DATASETS,
    "data/clips": CLIPS,
    "data/shards": SHARDS,
    "data/registry": SHARDS,
    "data/loaders": SHARDS,
    "data": DATA,
    "data/tools": DATA,
    "losses": LAYERS,
    "interactions": LAYERS,
    "freezing": LAYERS,
    "models": MODELS,
    "deploy": MODELS,
    "top": {"losses", "interactions", "freezing", "deploy", "engine", *MODELS, *DATA},  # timm_video_psn/__init__.py
    "engine": ENGINE,
    "engine/benchmark": ENGINE,
    "engine/evaluate": ENGINE,
    "engine/train": {"engine/evaluate", *ENGINE},
    "engine/predict": ENGINE,
    "insights": {"engine/evaluate", *ENGINE},
    "publish": {"engine/evaluate", "insights", *ENGINE},
    "command_line": {"engine/train", "data", "layers", "console"},
    "__main__": {
        "command_line",
        "data/tools",
        "insights",
        "publish",
        "engine/train",
        "engine/evaluate",
        "engine/predict",
        "engine/benchmark",
        *ENGINE,
    },
}

# modules that no test file mirrors -> the test file that covers them
COVERED_BY = {
    "engine/benchmark/variants": "engine/benchmark/test_command",
    "command_line/flags": "command_line/test_train",
    "command_line/benchmark": "engine/benchmark/test_command",
    "command_line/convert": "publish/test_convert",
    "command_line/export": "engine/test_export",
    "command_line/insights": "insights/test_commands",
    "command_line/predict": "engine/predict/test_command",
    "command_line/prepare": "data/tools/test_prepare",
    "command_line/publish": "publish/test_publish",
    "command_line/validate": "test_validate_video",
    "insights/report_page": "insights/test_report",
    "deploy/example_script": "deploy/test_export",
    "deploy/formats": "deploy/test_export",
    "deploy/parity": "deploy/test_export",
    "publish/bundle": "publish/test_publish",
    "publish/checkpoint_file": "publish/test_convert",
    "publish/command": "publish/test_publish",
    "publish/model_card": "publish/test_publish",
    "publish/register": "publish/test_loading",
    "publish/results": "publish/test_publish",
    "publish/upload": "publish/test_publish",
    "data/clips/create_transform": "engine/test_python_page",
    "deploy/residual": "deploy/test_fold",
    "deploy/routing": "deploy/test_fold",
    "surgery/report": "surgery/test_inject",
    "layers/enhanced_residual": "layers/baselines/test_receptive_field",
    "layers/recording": "layers/test_synthesizer",
    "layers/temporal_module": "layers/test_registry",
    "models/assembly": "models/test_create",
    "models/injection_point": "models/test_backbones",
    "models/external/source": "models/external/test_torchvision_source",
    "models/psn": "models/test_contract",
    "data/video/errors": "data/video/test_reader",
    "data/video/packet_scan": "data/video/test_reader",
    "data/video/pyav_backend": "data/video/test_reader",
    "data/clips/worker": "data/test_loaders",
    "data/tools/contact_sheet": "data/tools/test_prepare",
    "data/tools/check": "data/tools/test_prepare",
    "data/tools/reencode": "data/tools/test_prepare",
    "data/shards/index": "data/shards/test_loader",
    "engine/train/build": "engine/train/test_trainer",
    "engine/signals": "test_train_video",
    "engine/model_source": "engine/test_load_model",
    "engine/video_source": "engine/test_trained_model",
    "engine/evaluate/result_files": "test_validate_video",
    "engine/evaluate/report": "test_validate_video",
    "engine/evaluate/score_files": "test_validate_video",
    "insights/command": "insights/test_commands",
    "engine/run_index": "insights/test_commands",
}


def module_of(path: Path) -> str:
    """`data/video/reader` of .../timm_video_psn/data/video/reader.py; a folder's own name for its __init__.py."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return "/".join(parts[:-1] if parts[-1] == "__init__" else parts) or "top"


def floor_of(module: str) -> str:
    """The longest entry of ALLOWED that a module is, or lies in."""
    fitting = [floor for floor in ALLOWED if module == floor or module.startswith(f"{floor}/")]
    return max(fitting, key=len, default=module)


def imports(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    """All of them, also those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))


def imported_modules(path: Path) -> set[str]:
    """The modules of the package that a file imports, named as `module_of` names them."""
    names = []
    for node in imports(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        else:  # a name in a package may be a module of it
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    known = {module_of(source) for source in SOURCES}
    found = set()
    for name in names:
        package, *parts = name.split(".")
        if package == PACKAGE:
            paths = ("/".join(parts[:length]) for length in range(len(parts), -1, -1))
            found.add(next((path for path in paths if path in known), "top"))
    return found


GRAPH = {module_of(path): imported_modules(path) for path in SOURCES}


def circles(graph: dict[str, set[str]]) -> set[str]:
    """Modules that can be reached from themselves."""
    rest = {module: used & graph.keys() for module, used in graph.items()}
    while leaves := [module for module, used in rest.items() if not used & rest.keys() - {module}]:
        for module in leaves:
            del rest[module]
    return set(rest)


def test_imports_go_down_only():
    wrong = [
        f"{module} imports {used}"
        for module, all_used in GRAPH.items()
        for used in sorted(all_used)
        if floor_of(used) not in {floor_of(module), *ALLOWED[floor_of(module)]}
    ]
    assert wrong == []


def test_modules_have_no_circle():
    assert circles(GRAPH) == set()


def test_scripts_import_the_command_only():
    used = {path.name: {module.split("/")[0] for module in imported_modules(path)} for path in SCRIPTS}
    assert {name for name, parts in used.items() if parts != {"__main__"}} == set()


def test_the_checks_see_what_is_wrong(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(
        f"import {PACKAGE}.data.video.reader\nfrom {PACKAGE} import models, inject\n"
        f"def late():\n    from {PACKAGE}.engine import distributed\n    from {PACKAGE}.data import VideoReader\n"
    )
    assert imported_modules(path) == {"data/video/reader", "models", "top", "engine/distributed", "data"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {"a", "b", "c"}


def test_imports_are_absolute_and_name_what_they_take():
    nodes = [(path.name, node) for path in (*SOURCES, *SCRIPTS) for node in imports(path)]
    froms = [(name, node) for name, node in nodes if isinstance(node, ast.ImportFrom)]
    assert [(name, node.lineno) for name, node in froms if node.level] == [], "relative imports"
    assert [(name, node.lineno) for name, node in froms if node.names[0].name == "*"] == [], "star imports"


def third_party_imports(node: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """The packages of others that code imports, and whether it does so inside a function."""
    for child in ast.iter_child_nodes(node):
        names = []
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            names = [child.module or ""]
        packages = {name.partition(".")[0] for name in names}
        yield from ((name, inside) for name in packages - {PACKAGE} - sys.stdlib_module_names)
        yield from third_party_imports(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))


def distributions(requirements: list[str]) -> set[str]:
    """The names in requirements: `av` of `av>=16`."""
    return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}


def test_what_is_imported_is_among_the_dependencies_or_the_extras():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = distributions(project["dependencies"])
    assert BROUGHT_ALONG.keys().isdisjoint(needed)
    needed |= {name for name, by in BROUGHT_ALONG.items() if by in needed}
    extras = {name: distributions(rest) for name, rest in project["optional-dependencies"].items() if name != "dev"}
    optional = needed.union(*extras.values())
    found = {each for path in SOURCES for each in third_party_imports(ast.parse(path.read_text(encoding="utf-8")))}
    missing = {
        (name, "inside a function" if inside else "at module level")
        for name, inside in found
        if DISTRIBUTION.get(name, name.replace("_", "-")) not in (optional if inside else needed)
    }
    assert missing == set()


def test_files_are_short_and_named_for_their_job():
    lines = {module_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {module: count for module, count in lines.items() if count > MAX_LINES} == {}
    assert {path.name for path in SOURCES if path.stem in NO_JOB} == set()


def test_folders_are_two_levels_deep_at_most_and_hold_few_files():
    files = Counter(path.parent.relative_to(ROOT / PACKAGE).as_posix() for path in SOURCES)
    assert {folder for folder in files if folder.count("/") > 1} == set()
    assert {folder: count for folder, count in files.items() if count > MAX_FILES} == {}


def test_every_module_has_its_tests():
    mirrored = {
        module: (ROOT / "tests" / Path(module).parent / f"test_{Path(module).name}.py").exists()
        for module in (module_of(path) for path in SOURCES if path.stem != "__init__")
        if "/" in module
    }
    assert [module for module, found in mirrored.items() if not found and module not in COVERED_BY] == []
    assert [module for module in COVERED_BY if mirrored.get(module, True)] == [], "gone, or with tests of their own"
    assert [test for test in COVERED_BY.values() if not (ROOT / "tests" / f"{test}.py").exists()] == []


def test_importing_the_package_costs_little_more_than_timm_and_loads_nothing_heavy():
    # Without garbage collection: Python looks through all of torch's objects some time after they were made, and
    # whoever is being imported then pays for it.
    measure = (
        "import gc, sys, time; gc.disable(); start = time.process_time(); import timm; middle = time.process_time(); "
        f"before = set(sys.modules); import {PACKAGE}; end = time.process_time(); "
        "print(middle - start, end - middle, *({'matplotlib', 'av', 'yaml'} & (set(sys.modules) - before)))"
    )
    runs = []
    for _ in range(3):
        output = subprocess.run([sys.executable, "-c", measure], capture_output=True, text=True, check=True).stdout
        timm_sec, ours_sec, *heavy = output.split()
        assert heavy == []
        runs.append((float(timm_sec), float(ours_sec)))
    timm_sec, ours_sec = (statistics.median(column) for column in zip(*runs, strict=True))
    assert timm_sec + ours_sec <= 1.05 * timm_sec
