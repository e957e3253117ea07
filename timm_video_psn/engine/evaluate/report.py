"""Results and comparisons as lines of text, every number with its protocol."""

from collections.abc import Iterator

from timm_video_psn.engine.evaluate.accuracy import ClassAccuracy
from timm_video_psn.engine.evaluate.compare import ClassChange, Comparison
from timm_video_psn.engine.evaluate.intervals import Interval
from timm_video_psn.engine.evaluate.result_files import METRIC_NAMES, Result, count_line, metrics_of

_WHOLE_TABLE = 20  # classes up to which all are shown; else the best and the worst
_ENDS = 5
_NAME = 48


def result_lines(result: Result) -> Iterator[str]:
    """The result of a protocol, and its classes.

    Args:
        result: Result under one protocol.
    """
    scores, accuracy = result.scores, result.accuracy
    if accuracy is None:
        yield f"{scores.protocol}: no labels, so no accuracy; predictions of {count_line(scores, None)}"
        return
    numbers = ", ".join(f"{METRIC_NAMES[name]} {value}" for name, value in metrics_of(accuracy).items())
    if accuracy.mean_ap is not None:
        numbers = f"mAP {accuracy.mean_ap:.2f}, {numbers}"
    yield f"{scores.protocol}: {numbers} % ({count_line(scores, accuracy)})"
    rows = [row for row in accuracy.classes if row.videos]
    if len(rows) <= _WHOLE_TABLE:
        yield from map(_class_line, rows)
        return
    ranked = sorted(rows, key=lambda row: row.correct / row.videos)
    yield f"  {_ENDS} best of {len(rows)} classes; per_class.csv has all"
    yield from map(_class_line, reversed(ranked[-_ENDS:]))
    yield f"  {_ENDS} worst"
    yield from map(_class_line, ranked[:_ENDS])


def comparison_lines(comparison: Comparison, names: tuple[str, str]) -> Iterator[str]:
    """Which of two is better, and where.

    Args:
        comparison: Comparison of two score files.
        names: Names of the two.
    """
    count = f"{comparison.num_videos} of {comparison.num_expected} videos"
    for letter, name, protocol, top1 in zip(
        "AB", names, comparison.protocols, (comparison.first, comparison.second), strict=True
    ):
        yield f"{letter}  {protocol}: top-1 {top1} % ({count})  {name}"
    yield (f"B - A  {_signed(comparison.difference)} points of top-1 ({count})")
    yield (
        f"       only A is right: {comparison.only_first}, only B: {comparison.only_second}; "
        f"McNemar's exact p = {comparison.p_value:.3g}"
    )
    if comparison.protocols[0] != comparison.protocols[1]:
        yield "       note: the protocols differ, so that the difference is not the models' alone"
    gained = [change for change in comparison.classes if change.gain.value > 0][:_ENDS]
    lost = [change for change in reversed(comparison.classes) if change.gain.value < 0][:_ENDS]
    for title, changes in (("gained most", gained), ("lost most", lost)):
        if changes:
            yield f"  classes that {title}, A -> B"
            yield from map(_change_line, changes)


def _class_line(row: ClassAccuracy) -> str:
    mistaken = f", else mostly {row.most_confused_with} ({row.confused_videos})" if row.most_confused_with else ""
    share = 100 * row.correct / row.videos
    precision = "" if row.average_precision is None else f"  AP {row.average_precision:6.2f}"
    return f"  {row.name[:_NAME]:<{_NAME}} {row.correct:>5} of {row.videos:<5} {share:6.2f} %{precision}{mistaken}"


def _signed(points: Interval) -> str:
    return f"{points.value:+.2f} [{points.low:+.2f}, {points.high:+.2f}]"


def _change_line(change: ClassChange) -> str:
    numbers = f"{change.first:6.2f} -> {change.second:6.2f} ({_signed(change.gain)}, {change.videos} videos)"
    return f"  {change.name[:_NAME]:<{_NAME}} {numbers}"
