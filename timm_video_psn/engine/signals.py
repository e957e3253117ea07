"""Ctrl-C and SIGTERM as a request that training answers between two updates."""

import signal
from types import FrameType, TracebackType

from timm_video_psn.console import CommandEnded, launched_rank


class Interrupted(CommandEnded):
    """Training was asked to stop, and has saved.

    Args:
        signal_number: Signal that asked.
        message: What was saved, and how to resume.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message if launched_rank() == 0 else "", 128 + signal_number)


class StopRequest:
    """Within this context the first SIGINT or SIGTERM is noted; a second one stops at once, unless `patient`.

    Args:
        patient: Ignore a second signal. Under torchrun, which passes signals on, a scheduler that signals every
            process of a job reaches each of ours twice.

    Example:
        >>> with StopRequest() as stop:
        ...     stop.signal_number is None
        True
    """

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = number
        elif not self.patient:
            raise KeyboardInterrupt
