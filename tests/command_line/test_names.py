"""What options list without importing the tables is what the tables hold."""

from typing import get_args

from timm_video_psn.command_line import names
from timm_video_psn.command_line.train import build_parser
from timm_video_psn.data import ANNOTATED, DATASETS, SAMPLINGS, STREAMED
from timm_video_psn.data.clips.sampling import TEST_SAMPLINGS
from timm_video_psn.data.tools.reencode import KEY_FRAME_INTERVAL
from timm_video_psn.deploy.export import Layout
from timm_video_psn.deploy.formats import FORMATS
from timm_video_psn.engine.benchmark.variants import MODES
from timm_video_psn.engine.protocol import FUSIONS
from timm_video_psn.engine.train import options
from timm_video_psn.engine.train.loggers import LOGGERS
from timm_video_psn.insights.activation_map import Method
from timm_video_psn.insights.report import REPORT_LIMIT
from timm_video_psn.publish.convert import REPOSITORIES


def test_names_are_those_of_the_tables():
    readers = {**DATASETS, **ANNOTATED, **STREAMED}
    ours = {name for name, reader in readers.items() if reader.__module__.startswith("timm_video_psn.")}
    assert set(options.DATASETS) == ours
    assert set(names.FILE_DATASETS) == ours - set(STREAMED)
    assert set(names.SAMPLINGS) == set(SAMPLINGS)
    assert set(names.TEST_SAMPLINGS) == set(TEST_SAMPLINGS)
    assert set(names.VIEW_FUSIONS) == set(FUSIONS)
    assert set(names.WEIGHT_SOURCES) == set(REPOSITORIES)
    assert set(names.CAM_METHODS) == set(get_args(Method))
    assert set(names.EXPORT_FORMATS) == set(FORMATS)
    assert set(names.BENCHMARK_MODES) == set(MODES)
    assert set(names.EXPORT_LAYOUTS) == set(get_args(Layout))
    assert (names.REPORT_VIDEOS, names.KEY_FRAME_INTERVAL) == (REPORT_LIMIT, KEY_FRAME_INTERVAL)
    choices = {action.dest: action.choices for action in build_parser()._actions}
    assert set(choices["sampling"]) == set(SAMPLINGS)
    assert set(choices["log"]) == set(LOGGERS)
