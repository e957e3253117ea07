"""Surgery on any nn.Module; knows neither video nor timm."""

from timm_video_psn.surgery.inject import CHILD, Where, detach, disabled, inject, injected, resolve
from timm_video_psn.surgery.match import NoTargetError, match
from timm_video_psn.surgery.replace import put_back, replace
from timm_video_psn.surgery.report import InjectedModule, Injection, ReplacedModule, Replacement, count_parameters
from timm_video_psn.surgery.state_dict import Mismatch, find_mismatch

__all__ = [
    "CHILD",
    "InjectedModule",
    "Injection",
    "Mismatch",
    "NoTargetError",
    "ReplacedModule",
    "Replacement",
    "Where",
    "count_parameters",
    "detach",
    "disabled",
    "find_mismatch",
    "inject",
    "injected",
    "match",
    "put_back",
    "replace",
    "resolve",
]
