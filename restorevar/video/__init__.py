"""Videos: read, restored frame by frame in constant memory, written with all that belongs to them.

    cut into segments of frames -> (decode -> restore -> steady -> encode) each -> joined beside the other streams

Needs PyAV, the extra `video`, which only the modules below load.
"""

from .extra import check_extra
from .formats import CONTAINERS, VIDEO_EXTENSIONS, is_video_path, written_suffix
from .options import CODECS, VideoOptions

__all__ = [
    "CODECS",
    "CONTAINERS",
    "VIDEO_EXTENSIONS",
    "VideoOptions",
    "check_extra",
    "is_video_path",
    "written_suffix",
]
