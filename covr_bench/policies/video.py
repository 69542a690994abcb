"""Writing video files with PyAV, whose wheels bring FFmpeg along."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from pathlib import Path
    from typing import BinaryIO

    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Format:
    """container, codec and their options by FFmpeg's names; crf is the quality, 0 the best."""

    container: str
    codec: str
    codec_options: tuple[tuple[str, str], ...]
    container_options: tuple[tuple[str, str], ...] = ()


SMALL_MP4 = Format("mp4", "libx264", (("preset", "slow"), ("crf", "30")))
FORMATS = {
    # faststart: plays before the whole of it is loaded. FFmpeg opens the file a second time for it.
    ".mp4": Format("mp4", "libx264", (("crf", "20"),), (("movflags", "faststart"),)),
    ".webm": Format("webm", "libvpx-vp9", (("crf", "30"), ("b", "0"), ("cpu-used", "5"))),
}
PIXELS = "yuv420p"  # what every browser plays; colour at half the resolution, so sides are even


def check_format(file: Path) -> None:
    """Raises UserError for an ending that no format has, and where PyAV is missing."""
    if file.suffix not in FORMATS:
        raise UserError(f"cannot record to {str(file)!r}. Valid endings: {', '.join(FORMATS)}.")
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError(f"recording needs PyAV ({error}): pip install 'av>=14'") from error


class Video:
    """A video being written."""

    def __init__(self, container: Any, format_: Format, rate: Fraction) -> None:
        self.container, self.format, self.rate = container, format_, rate
        self.stream: Any = None
        self.frames = 0

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        """A frame, uint8 `(height, width, 3)`; both sides even, and the same for all."""
        import av

        if self.stream is None:
            options = dict(self.format.codec_options)
            self.stream = self.container.add_stream(self.format.codec, rate=self.rate, options=options)
            self.stream.height, self.stream.width = image.shape[:2]
            self.stream.pix_fmt = PIXELS
        self.container.mux(self.stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        self.frames += 1

    def finish(self) -> None:
        """Write the frames that the encoder still holds back."""
        if self.stream is not None:
            self.container.mux(self.stream.encode())


@contextmanager
def writing_video(file: str | BinaryIO, format_: Format, rate: Fraction) -> Iterator[Video]:
    """A video at a path or, without container options, in an open file. rate: frames a second. Raises OSError."""
    import av

    options = dict(format_.container_options)
    with av.open(file, "w", format=format_.container, options=options) as container:
        video = Video(container, format_, rate)
        yield video
        video.finish()


@contextmanager
def video_file(path: Path, rate: Fraction) -> Iterator[Video]:
    """A video file, its format by its ending, that takes its place when it is whole. Raises UserError."""
    part = path.with_name(f".{path.name}.part")
    try:
        try:
            with writing_video(str(part), FORMATS[path.suffix], rate) as video:
                yield video
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
