"""What validate_video.py does with score files alone: join them, or compare two."""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path

from timm_video_psn.data import label_fingerprint
from timm_video_psn.engine.evaluate.accuracy import LEVEL, measure
from timm_video_psn.engine.evaluate.compare import Comparison, compare
from timm_video_psn.engine.evaluate.report import comparison_lines, result_lines
from timm_video_psn.engine.evaluate.result_files import Result, write_csv, write_results
from timm_video_psn.engine.evaluate.scores import ensemble, load_scores
from timm_video_psn.files import atomic_path
from timm_video_psn.version import package_versions

_logger = logging.getLogger(__name__)


def run_ensemble(options: argparse.Namespace) -> Result:
    """Join score files, report their accuracy, and write it where `--output` says.

    Args:
        options: see `engine.evaluate.options`.

    Returns:
        The result.
    """
    names = options.ensemble
    joined = ensemble([load_scores(Path(name)) for name in names], names, options.weights, options.fusion)
    accuracy = measure(joined, (), options.bootstrap, options.seed) if joined.labelled else None
    settings = {"fusion": joined.fusion, "parts": names, "weights": options.weights or [1.0] * len(names)}
    result = Result(joined, accuracy, "ensemble", settings)
    for line in result_lines(result):
        _logger.info(line)
    if options.output:
        about = {
            "ensemble": names,
            "dataset_version": joined.dataset_version,
            "label_fingerprint": label_fingerprint(joined.class_names),
            "bootstrap": {"resamples": options.bootstrap, "seed": options.seed, "level": LEVEL},
            "versions": package_versions(),
        }
        write_results(Path(options.output), [result], about)
        _logger.info(f"written   {options.output}")
    return result


def run_comparison(options: argparse.Namespace) -> Comparison:
    """Compare two score files, and write the comparison where `--output` says.

    Args:
        options: see `engine.evaluate.options`.

    Returns:
        The comparison.
    """
    names = (options.compare[0], options.compare[1])
    first, second = (load_scores(Path(name)) for name in names)
    comparison = compare(first, second, names, options.bootstrap, options.seed)
    for line in comparison_lines(comparison, names):
        _logger.info(line)
    if options.output:
        _write(Path(options.output), comparison, names, options)
        _logger.info(f"written   {options.output}")
    return comparison


def _write(folder: Path, comparison: Comparison, names: tuple[str, str], options: argparse.Namespace) -> None:
    """`comparison.json`, and `comparison.csv` with a row a class."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"files": names, **asdict(comparison)}
    del summary["classes"]
    for key in ("first", "second", "difference"):
        summary[key] = getattr(comparison, key)._asdict()
    summary["bootstrap"] = {"resamples": options.bootstrap, "seed": options.seed, "level": LEVEL}
    with atomic_path(folder / "comparison.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    header = ("class", "videos", "first", "second", "gain", "first_protocol", "second_protocol")
    rows = (
        (change.name, change.videos, round(change.first, 4), round(change.second, 4), round(change.gain, 4))
        for change in comparison.classes
    )
    write_csv(folder / "comparison.csv", header, ((*row, *comparison.protocols) for row in rows))
