"""A user's own PNG or JPEG images, from a folder or an archive, as bytes with labels and splits."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..storage import DataError
from ..text import for_terminal, listed, reason
from .archives import walk_files

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")
OTHER_IMAGE_SUFFIXES = (".gif", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".avif", ".jp2", ".ppm", ".pgm")
# Where a PNG file says how many bits a sample has.
PNG_DEPTH = 24
SPLIT_FOLDERS = {"train", "test"}
# An image of more pixels than this is a mistake or a decompression bomb: 50 million pixels are 150 MB in
# colour.
MAXIMUM_PIXELS = 50_000_000
MAXIMUM_DECODED_BYTES = 8 * 1024**3


@dataclass(frozen=True)
class ImageFolder:
    """The images of one tree, sorted by their paths.

    Attributes:
        images: (N, H, W) or (N, H, W, 3) bytes.
        labels: (N,) int64 index into `class_names`, or None where the images are not in two or more class
            folders.
        class_names: The class folders' names, sorted, or None.
        is_test: (N,) booleans where the tree has train/ and test/ folders, or None.
    """

    images: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None
    is_test: np.ndarray | None


def read_image_folder(path: str | Path, image_shape: Sequence[int] | None = None) -> ImageFolder:
    """Read all images of a folder or of a .tar.gz or .zip archive.

    Folders that hold everything else are passed over. Then train/ and test/ (or Train/, TEST/) are splits where
    both are there, and the next folder's name is the image's class where there are two or more. Hidden files
    and files that are no images are skipped, and their number is logged.

    Args:
        path: The folder or archive.
        image_shape: [H, W] for grey or [H, W, 3] for colour: images are converted and resized (bilinear with
            antialiasing, proportions not kept). None: images are taken as they are, and must all be alike.

    Returns:
        The images with what their folders tell.

    Raises:
        DataError: A file is not what its name says, is CMYK, transparent, animated, of 16 bits or too large;
            images differ in shape without `image_shape`; there are fewer than two; the folders contradict one
            another; or the tree is damaged or unsafe (see `walk_files`).
    """
    path = Path(path)
    decoded: dict[PurePosixPath, np.ndarray] = {}
    skipped = total = 0
    for relative, content in walk_files(path, IMAGE_SUFFIXES):
        if any(part.startswith((".", "__MACOSX")) for part in relative.parts):
            skipped += 1
        elif content is not None:
            image = decoded[relative] = decode_image(content, f"{path}/{relative}", image_shape)
            first = next(iter(decoded))
            if image.shape != decoded[first].shape:
                raise DataError(
                    f"{path}/{relative}: has shape {list(image.shape)}, but {first} has"
                    f" {list(decoded[first].shape)}; set image_shape in the registry to resize"
                )
            total += image.nbytes
            if total > MAXIMUM_DECODED_BYTES:
                raise DataError(
                    f"{path}: decodes to more than {MAXIMUM_DECODED_BYTES} bytes; set a smaller image_shape"
                )
        elif relative.suffix.lower() in OTHER_IMAGE_SUFFIXES:
            raise DataError(f"{path}/{relative}: only PNG and JPEG are read; convert it")
        else:
            skipped += 1
    if skipped:
        told = f"{for_terminal(path)}: skipped {skipped} files that are not images"
        logging.getLogger(__name__).warning("%s", told)
    if len(decoded) < 2:
        raise DataError(
            f"{path}: holds {'one image' if decoded else 'no PNG or JPEG image'}; two splits need images each"
        )
    names = sorted(decoded, key=lambda name: name.parts)
    is_test, classes = _read_layout(path, names)
    labels = class_names = None
    if classes is not None:
        class_names = tuple(sorted(set(classes)))
        labels = np.array([class_names.index(name) for name in classes], dtype=np.int64)
    return ImageFolder(np.stack([decoded[name] for name in names]), labels, class_names, is_test)


def decode_image(content: bytes, name: str, image_shape: Sequence[int] | None = None) -> np.ndarray:
    """Decode one PNG or JPEG file.

    Args:
        content: The file's bytes.
        name: What to call it in messages.
        image_shape: See `read_image_folder`.

    Returns:
        (H, W) or (H, W, 3) bytes.

    Raises:
        DataError: See `read_image_folder`.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        if image.width * image.height > MAXIMUM_PIXELS:
            raise Image.DecompressionBombError
        problem = _unusable(image, content)
        if problem:
            raise DataError(f"{name}: {problem}")
        image.load()
        image = ImageOps.exif_transpose(image)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{name}: has more than {MAXIMUM_PIXELS} pixels; make it smaller") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{name}: is not a PNG or JPEG image, whatever its name says") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files.
        raise DataError(f"{name}: cannot be decoded ({reason(error)})") from None
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "P":
        image = image.convert("RGB")
    if image_shape is not None:
        image = image.convert("L" if len(image_shape) == 2 else "RGB")
        height, width = image_shape[:2]
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).copy()


def _unusable(image: object, content: bytes) -> str | None:
    """Say why an opened image's pixels are no plain grey or colour bytes, or return None."""
    # Phones add small copies or depths to a JPEG (then an MPO); the first frame is the picture, as in any viewer.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        return "is animated; keep one frame"
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return f"has transparency ({image.mode}); flatten it onto a background"
    if image.mode in ("CMYK", "YCCK"):
        return "is CMYK, whose colours depend on a printer's profile; convert it to RGB"
    if image.mode not in ("1", "L", "P", "RGB"):
        return f"has pixels of mode {image.mode}, not bytes; convert it to 8-bit grey or RGB"
    if image.format == "PNG" and content[PNG_DEPTH] > 8:  # Pillow would cut colours to their upper bytes
        return f"has {content[PNG_DEPTH]} bits per colour; convert it to 8-bit grey or RGB"
    return None


def _read_layout(path: Path, names: Sequence[PurePosixPath]) -> tuple[np.ndarray | None, list[str] | None]:
    """Read splits and classes off the folders' names: is test (or None) and class (or None) of each image."""
    folders = [name.parts[:-1] for name in names]
    while all(folders) and len({folder[0] for folder in folders}) == 1 and not _is_split(folders[0][0]):
        folders = [folder[1:] for folder in folders]
    folders = [(folder[0].lower(), *folder[1:]) if folder and _is_split(folder[0]) else folder for folder in folders]
    tops = {folder[0] if folder else None for folder in folders}
    is_test = None
    if tops & SPLIT_FOLDERS:
        if tops < SPLIT_FOLDERS:
            missing = (SPLIT_FOLDERS - tops).pop()
            raise DataError(f"{path}: folders train/ and test/ go together, but {missing}/ holds no images")
        if tops > SPLIT_FOLDERS:
            others = listed(sorted(top or "no folder" for top in tops - SPLIT_FOLDERS))
            raise DataError(f"{path}: beside train/ and test/ there are images in {others}; move them")
        if tops != SPLIT_FOLDERS:
            raise DataError(f"{path}: has a folder {(tops & SPLIT_FOLDERS).pop()}/ but not both train/ and test/")
        is_test = np.array([folder[0] == "test" for folder in folders])
        folders = [folder[1:] for folder in folders]
    depths = {bool(folder) for folder in folders}
    if depths == {True, False}:
        loose = next(name for name, folder in zip(names, folders, strict=True) if not folder)
        raise DataError(f"{path}/{loose}: lies outside the class folders that the other images are in")
    if depths == {False}:
        return is_test, None
    classes = [folder[0] for folder in folders]
    if is_test is not None:
        unknown = sorted(set(np.array(classes)[is_test]) - set(np.array(classes)[~is_test]))
        if unknown:
            raise DataError(f"{path}: the class {unknown[0]} is in test/ but not in train/")
    # One folder is no label: it tells the images apart from nothing.
    return is_test, classes if len(set(classes)) > 1 else None


def _is_split(folder: str) -> bool:
    return folder.lower() in SPLIT_FOLDERS
