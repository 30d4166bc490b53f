"""Read and write photographs so that everything but the pixels comes out as it went in.

`read_photo` gives a `Photo`: upright RGB pixels of 8 or 16 bits plus all that is needed to write the file
back in kind (alpha, EXIF, ICC profile, XMP, DPI, JPEG tables, ...); `write_photo` writes it, whole or not
at all. Pillow does the decoding and encoding. It holds colour at 8 bits only, hence two additions here:

* 16-bit colour is decoded by Pillow twice, once for the high and once for the low bytes of the samples;
* 16-bit PNG, and TIFF of either depth, are encoded here, with Pillow's own writers of metadata.

reading.py goes through opening, decoding, metadata and coding to a Photo; writing.py from a Photo through
encoding to png and tiff. failures.py makes one line of whatever goes wrong on either way.

What does not come back as it was: palette and CMYK pixels become RGB, 1-, 2- and 4-bit gray becomes 8-bit,
progressive JPEG becomes baseline, LZW and lossy TIFF becomes Deflate, the EXIF thumbnail is unlinked, and the
further pictures of a JPEG (depth map, gain map) are left behind.
"""

from .failures import NotAnImage, TooLarge
from .formats import EXTENSIONS, FORMATS, is_image_path
from .photo import Photo, photo_to_pil
from .pixels import from_tensor, luma, to_tensor
from .reading import MAX_PIXELS, photo_from_bytes, photo_from_pil, read_photo
from .writing import check_format, check_output, photo_to_bytes, write_photo

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "MAX_PIXELS",
    "NotAnImage",
    "Photo",
    "TooLarge",
    "check_format",
    "check_output",
    "from_tensor",
    "is_image_path",
    "luma",
    "photo_from_bytes",
    "photo_from_pil",
    "photo_to_bytes",
    "photo_to_pil",
    "read_photo",
    "to_tensor",
    "write_photo",
]
