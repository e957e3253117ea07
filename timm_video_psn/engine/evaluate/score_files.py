"""The work of validation on score files alone: join them, or compare two."""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path

from timm_video_psn.data import label_fingerprint
from timm_video_psn.engine.evaluate.accuracy import measure
from timm_video_psn.engine.evaluate.compare import Comparison, class_rows, compare
from timm_video_psn.engine.evaluate.intervals import ABOUT_INTERVALS
from timm_video_psn.engine.evaluate.report import comparison_lines, result_lines
from timm_video_psn.engine.evaluate.result_files import Result, write_results
from timm_video_psn.engine.evaluate.scores import ensemble, load_scores
from timm_video_psn.files import write_csv, write_text
from timm_video_psn.version import package_versions

_logger = logging.getLogger(__name__)


def run_ensemble(options: argparse.Namespace) -> Result:
    """Joins score files, reports their accuracy, and writes it where `--output` says.

    Args:
        options: See `command_line.validate`.

    Returns:
        The result.
    """
    names = options.ensemble
    joined = ensemble([load_scores(Path(name)) for name in names], names, options.weights, options.fusion)
    accuracy = measure(joined) if joined.labelled else None
    settings = {"fusion": joined.fusion, "parts": names, "weights": options.weights or [1.0] * len(names)}
    result = Result(joined, accuracy, "ensemble", settings)
    for line in result_lines(result):
        _logger.info(line)
    if options.output:
        about = {
            "ensemble": names,
            "dataset_version": joined.dataset_version,
            "label_fingerprint": label_fingerprint(joined.class_names),
            "intervals": ABOUT_INTERVALS,
            "versions": package_versions(),
        }
        write_results(Path(options.output), [result], about)
        _logger.info(f"written   {options.output}")
    return result


def run_comparison(options: argparse.Namespace) -> Comparison:
    """Compares two score files, and writes the comparison where `--output` says.

    Args:
        options: See `command_line.validate`.

    Returns:
        The comparison.
    """
    names = (options.compare[0], options.compare[1])
    first, second = (load_scores(Path(name)) for name in names)
    comparison = compare(first, second, names)
    for line in comparison_lines(comparison, names):
        _logger.info(line)
    if options.output:
        _write(Path(options.output), comparison, names)
        _logger.info(f"written   {options.output}")
    return comparison


def _write(folder: Path, comparison: Comparison, names: tuple[str, str]) -> None:
    """`comparison.json`, and `comparison.csv` with a row a class."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"files": names, **asdict(comparison)}
    del summary["classes"]
    for key in ("first", "second", "difference"):
        summary[key] = getattr(comparison, key)._asdict()
    summary["intervals"] = ABOUT_INTERVALS
    write_text(folder / "comparison.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    header = ("class", "videos", "first", "second", "gain", "low", "high", "first_protocol", "second_protocol")
    write_csv(folder / "comparison.csv", header, ((*row, *comparison.protocols) for row in class_rows(comparison)))
