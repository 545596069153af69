"""A user's own images: layouts, colours, sizes, and everything that a folder or an archive can do wrong."""

import importlib.util
import io
import os
import random
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aggregated_posterior.data import archives as file_trees
from aggregated_posterior.data import image_folder
from aggregated_posterior.data.image_folder import decode_image, read_image_folder
from aggregated_posterior.storage import DataError, read_arrays

ROOT = Path(__file__).resolve().parents[3]
CIFAR = ROOT.parent / "shared" / "data" / "cifar10-jpeg.tar.gz"


def prepare(path, output, **entry):
    """Run the pipeline's script on an image folder."""
    spec = importlib.util.spec_from_file_location("prepare_dataset", ROOT / "scripts" / "prepare_dataset.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entry = {"kind": "image_folder", "path": str(path), **entry}
    module.prepare_dataset([str(path)], str(output), "mine", entry, seed=0)


def picture(seed=0, size=(6, 5), mode="L", format="PNG", **options):
    """The bytes of a random image; `size` is (width, height)."""
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4, "LA": 2}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels, mode).save(stream, format, **options)
    return stream.getvalue()


def tree(names, **options):
    return {name: picture(seed, **options) for seed, name in enumerate(names)}


def write_folder(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


WRITERS = {
    "folder": (write_folder, "images"),
    "tar": (write_tar, "images.tar.gz"),
    "zip": (write_zip, "images.zip"),
}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    """Write files as a folder or as either archive, and return its path."""
    writer, name = WRITERS[request.param]
    return lambda files: writer(tmp_path / name, files)


def refuse(path, tmp_path, told, **entry):
    """Assert that the script refuses a tree in two lines or less that name it, and writes nothing."""
    output = tmp_path / "out" / "data.safetensors"
    with pytest.raises(DataError) as caught:
        prepare(path, output, **entry)
    message = str(caught.value)
    assert told in message, message
    assert Path(path).name in message and len(message.splitlines()) <= 2
    assert not output.parent.exists() or not list(output.parent.iterdir())


# --- layouts ---

CLASSES = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(5)]
SPLITS = [f"{split}/{name}" for split in ("train", "test") for name in CLASSES]


def test_class_folders_become_labels(write):
    files = tree(CLASSES)
    found = read_image_folder(write(files))
    assert found.images.shape == (10, 5, 6) and found.images.dtype == np.uint8
    assert found.class_names == ("cat", "dog") and found.labels.tolist() == [0] * 5 + [1] * 5
    assert found.is_test is None
    for image, name in zip(found.images, sorted(files), strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(files[name]))))


def test_train_and_test_folders_become_splits(write):
    found = read_image_folder(write(tree(SPLITS)))
    assert found.is_test.tolist() == [True] * 10 + [False] * 10
    assert found.labels.tolist() == ([0] * 5 + [1] * 5) * 2


def test_a_folder_around_everything_is_passed_over(write):
    found = read_image_folder(write({f"download/v2/{name}": content for name, content in tree(SPLITS).items()}))
    assert found.is_test is not None and found.class_names == ("cat", "dog")


@pytest.mark.parametrize("names", [["a.png", "b.PNG", "c.Jpeg"], ["only/a.png", "only/b.png"]])
def test_loose_images_have_no_labels(write, names):
    files = {name: picture(1, format="JPEG" if name.endswith("eg") else "PNG") for name in names}
    found = read_image_folder(write(files))
    assert len(found.images) == len(names) and found.labels is None and found.class_names is None


def test_other_files_are_skipped_and_counted(write, caplog):
    extra = {"README.txt": b"hello", ".hidden.png": b"no image", "__MACOSX/cat/._0.png": b"no image"}
    found = read_image_folder(write(tree(CLASSES) | extra))
    assert len(found.images) == 10 and "skipped 3 files" in caplog.text


def test_folder_and_archives_give_the_same_bytes(tmp_path):
    for name, (writer, target) in WRITERS.items():
        prepare(writer(tmp_path / target, tree(CLASSES)), tmp_path / name)
    assert (tmp_path / "folder").read_bytes() == (tmp_path / "tar").read_bytes() == (tmp_path / "zip").read_bytes()


def test_the_data_file_is_split_by_seed_with_all_classes(write, tmp_path):
    names = [f"{name}/{number}.png" for name in "abc" for number in range(20)]
    path = write(tree(names, mode="RGB"))
    prepare(path, tmp_path / "data", test_fraction=0.25, classes=3)
    arrays, metadata = read_arrays(tmp_path / "data")
    assert arrays["images_train"].shape == (45, 5, 6, 3) and arrays["images_test"].shape == (15, 5, 6, 3)
    assert np.bincount(arrays["labels_test"]).tolist() == [5, 5, 5]
    assert len(set(arrays["labels_train"][:15])) == 3, "the first images are a sample of all classes"
    assert metadata == {
        "dataset": "mine",
        "kind": "image",
        "image_shape": [5, 6, 3],
        "maximum": 255,
        "classes": 3,
        "class_names": ["a", "b", "c"],
    }
    everything = np.concatenate([arrays["images_train"], arrays["images_test"]])
    assert len({image.tobytes() for image in everything}) == 60


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["train/a.png", "train/b.png"], "test/ holds no images"),
        (["test/a.png", "test/b.png"], "train/ holds no images"),
        (["train/a.png", "train/b.png", "test/a.png", "other/b.png"], "there are images in other; move them"),
        (["train/a.png", "train/b.png", "test/a.png", "c.png"], "there are images in no folder; move them"),
        (["train/a.png", "train/b.png", "cat/a.png"], "has a folder train/ but not both train/ and test/"),
        (["train/a.png", "train/b.png", "test/a.png"], "2 train and 1 test images"),
        (["cat/a.png", "dog/b.png", "c.png"], "c.png: lies outside the class folders"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "the class c is in test/ but not in train/"),
        (["a.png", "b.png", "c.png"], "holds 3 images; each of train and test needs 2"),
        (["a.png"], "holds one image"),
        (["a.txt"], "holds no PNG or JPEG image"),
        ([], "holds no PNG or JPEG image"),
        (["a.png", "b.png", "c.gif"], "c.gif: only PNG and JPEG are read"),
    ],
)
def test_contradictory_layouts_are_refused(tmp_path, names, told):
    root = tmp_path / "images"
    root.mkdir()
    refuse(write_folder(root, tree(names)), tmp_path, told)


def test_a_wrong_number_of_classes_is_refused(tmp_path):
    root = write_folder(tmp_path / "images", tree(CLASSES))
    refuse(root, tmp_path, "has 2 class folders, but mine has 3 classes", classes=3)
    root = write_folder(tmp_path / "loose", tree(["a.png", "b.png", "c.png", "d.png"]))
    refuse(root, tmp_path, "has no class folders, but mine has 2 classes", classes=2)


# --- pixels ---


def test_images_are_converted_and_resized_as_configured():
    content = picture(0, (9, 7), "RGB")
    assert decode_image(content, "x", [5, 4]).shape == (5, 4)
    assert decode_image(content, "x", [5, 4, 3]).shape == (5, 4, 3)
    assert decode_image(content, "x").shape == (7, 9, 3)
    grey = picture(0, (9, 7), "L")
    colour = decode_image(grey, "x", [7, 9, 3])
    assert (colour == decode_image(grey, "x")[:, :, None]).all()
    flat = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 100, 50)).save(flat, "PNG")
    assert (decode_image(flat.getvalue(), "x", [3, 8, 3]) == [200, 100, 50]).all()


def test_black_and_white_and_palettes_are_read():
    stream = io.BytesIO()
    Image.fromarray(np.eye(4, dtype=bool)).save(stream, "PNG")
    np.testing.assert_array_equal(decode_image(stream.getvalue(), "x"), np.eye(4, dtype=np.uint8) * 255)
    stream = io.BytesIO()
    source = Image.new("RGB", (4, 4), (255, 0, 0))
    source.quantize(4).save(stream, "PNG")
    assert (decode_image(stream.getvalue(), "x") == [255, 0, 0]).all()


def test_the_cameras_orientation_is_followed():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(picture(0, (9, 7), "RGB", "JPEG", exif=exif), "x").shape == (9, 7, 3)


def test_mixed_sizes_need_a_configured_size(write, tmp_path):
    files = tree(CLASSES) | {"dog/5.png": picture(5, (7, 7))}
    path = write(files)
    refuse(path, tmp_path, "set image_shape in the registry to resize")
    assert read_image_folder(path, [4, 4]).images.shape == (11, 4, 4)


def test_mixed_colours_need_a_configured_shape(tmp_path):
    path = write_folder(tmp_path / "images", tree(CLASSES) | {"dog/5.png": picture(5, mode="RGB")})
    refuse(path, tmp_path, "dog/5.png: has shape [5, 6, 3], but cat/0.png has [5, 6]")


def test_jpegs_with_other_endings_are_images(tmp_path):
    files = {name: picture(format="JPEG") for name in ("a.jfif", "b.jpe", "c.JFIF", "d.jpg")}
    assert len(read_image_folder(write_folder(tmp_path, files)).images) == 4


def test_the_first_frame_of_a_phones_jpeg_is_its_picture(tmp_path):
    first, second = (Image.open(io.BytesIO(picture(seed, mode="RGB", format="JPEG"))) for seed in (1, 2))
    stream = io.BytesIO()
    first.save(stream, "MPO", save_all=True, append_images=[second])
    alone = io.BytesIO()
    first.save(alone, "JPEG")
    np.testing.assert_array_equal(
        decode_image(stream.getvalue(), "phone.jpg"), decode_image(alone.getvalue(), "alone.jpg")
    )


def test_split_folders_may_have_capitals(write):
    found = read_image_folder(write(tree(["Train/cat/a.png", "Train/dog/b.png", "TEST/cat/c.png", "TEST/dog/d.png"])))
    assert found.class_names == ("cat", "dog") and sorted(found.is_test) == [False, False, True, True]


def animated():
    frames = [Image.new("L", (6, 5), shade) for shade in (0, 100, 200)]
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def deep():
    stream = io.BytesIO()
    Image.fromarray(np.full((5, 6), 40_000, dtype=np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def deep_colour():
    """A PNG of 16 bits per colour, which Pillow reads and does not write."""
    rows = (b"\0" + bytes(6 * 6)) * 5
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 6, 5, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def see_through_palette():
    stream = io.BytesIO()
    Image.new("P", (6, 5)).save(stream, "PNG", transparency=0)
    return stream.getvalue()


def bomb(width, height):
    """A small PNG whose header tells a huge image."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.png", b"I am no image", "is not a PNG or JPEG image, whatever its name says"),
        ("x.png", b"", "is not a PNG or JPEG image"),
        ("x.jpg", b"GIF89a" + bytes(20), "is not a PNG or JPEG image"),
        ("x.jpg", picture(mode="CMYK", format="JPEG"), "is CMYK"),
        ("x.png", picture(mode="RGBA"), "has transparency (RGBA)"),
        ("x.png", picture(mode="LA"), "has transparency (LA)"),
        ("x.png", see_through_palette(), "has transparency"),
        ("x.png", animated(), "is animated"),
        ("x.png", deep(), "not bytes; convert it to 8-bit"),
        ("x.png", deep_colour(), "has 16 bits per colour; convert it to 8-bit"),
        ("x.png", picture()[:-30], "cannot be decoded"),
        ("x.jpg", picture(format="JPEG")[:-60], "cannot be decoded"),
        ("x.png", bomb(8000, 7000), "more than 50000000 pixels"),
        ("x.png", bomb(12_000, 12_000), "more than 50000000 pixels"),
        ("x.png", bomb(60_000, 60_000), "more than 50000000 pixels"),
        ("x.png", bomb(1000, 1000), "cannot be decoded"),
        ("x.png", bomb(0, 5), "x.png"),
    ],
)
def test_unusable_images_are_refused(write, tmp_path, name, content, told):
    path = write(tree(CLASSES) | {f"dog/{name}": content})
    refuse(path, tmp_path, told, image_shape=[5, 6])


@pytest.mark.parametrize("seed", range(60))
def test_damaged_images_are_refused_or_decoded_whole(tmp_path, seed):
    """A damaged file never gives an odd shape, a traceback or an output: it is refused by name, or decodes."""
    rng = random.Random(seed)
    format = ("PNG", "JPEG")[seed % 2]
    original = picture(seed, (20, 20), "RGB", format)
    damaged = bytearray(original)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(damaged))
        if rng.random() < 0.3:
            del damaged[place : place + rng.randint(1, 40)]
        else:
            damaged[place] = rng.randrange(256)
    path = write_folder(tmp_path / "images", tree(CLASSES, size=(20, 20), mode="RGB") | {"dog/x.jpg": bytes(damaged)})
    output = tmp_path / "data"
    try:
        prepare(path, output, image_shape=[20, 20, 3])
    except DataError as error:
        assert "dog/x.jpg" in str(error) and len(str(error).splitlines()) == 1
        assert not output.exists()
    else:
        if format == "PNG":  # its checksums cover every pixel
            np.testing.assert_array_equal(decode_image(bytes(damaged), "x"), decode_image(original, "x"))
        assert read_arrays(output)[0]["images_train"].shape[1:] == (20, 20, 3)


# --- trees ---


def test_missing_and_unknown_paths_are_refused(tmp_path):
    refuse(tmp_path / "missing", tmp_path, "no such folder or archive")
    (tmp_path / "images.rar").write_bytes(b"Rar!")
    refuse(tmp_path / "images.rar", tmp_path, "neither a folder nor a .tar.gz, .tgz or .zip")


def test_the_files_to_watch_are_listed(tmp_path):
    root = write_folder(tmp_path / "images", tree(CLASSES) | {"notes.txt": b""})
    (root / "dangling.png").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    assert file_trees.list_files(root) == sorted(str(root / name) for name in [*CLASSES, "notes.txt"])
    assert file_trees.list_files(tmp_path / "images.zip") == [str(tmp_path / "images.zip")]


def test_a_folder_that_cannot_be_looked_into_is_one_line(tmp_path):
    with pytest.raises(DataError, match="too long"):
        file_trees.list_files(tmp_path / ("x" * 300))


def test_links_out_of_the_folder_are_refused(tmp_path):
    outside = tmp_path / "outside.png"
    outside.write_bytes(picture())
    root = write_folder(tmp_path / "images", tree(CLASSES))
    link = root / "dog" / "link.png"
    link.symlink_to(outside)
    refuse(root, tmp_path, "dog/link.png: is a symbolic link out of the folder")
    link.unlink()
    link.symlink_to(tmp_path / "images2" / "x.png")
    refuse(root, tmp_path, "out of the folder")
    link.unlink()
    (root / "more").symlink_to(tmp_path)
    refuse(root, tmp_path, "more: is a symbolic link to a folder")
    (root / "more").unlink()
    link.symlink_to(root / "cat" / "missing.png")
    refuse(root, tmp_path, "link.png: cannot be read")


def test_links_within_the_folder_and_to_it_are_followed(tmp_path):
    root = write_folder(tmp_path / "images", tree(CLASSES))
    (root / "dog" / "9.png").symlink_to("../cat/0.png")
    (tmp_path / "alias").symlink_to(root)
    found = read_image_folder(tmp_path / "alias")
    assert len(found.images) == 11
    np.testing.assert_array_equal(found.images[0], found.images[-1])


def test_devices_and_pipes_are_not_waited_for(tmp_path):
    root = write_folder(tmp_path / "images", tree(CLASSES))
    os.mkfifo(root / "dog" / "pipe.png")
    refuse(root, tmp_path, "pipe.png: is not a regular file")


def test_names_that_cannot_be_shown_are_refused(tmp_path):
    root = write_folder(tmp_path / "images", tree(CLASSES) | {"dog/a\nb.png": picture()})
    refuse(root, tmp_path, r"'dog/a\nb.png' has characters that cannot be shown")


@pytest.mark.parametrize("name", ["../evil.png", "cat/../../evil.png", "/etc/evil.png", "cat\\evil.png"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_that_leave_the_folder_are_refused(tmp_path, kind, name):
    writer, target = WRITERS[kind]
    refuse(writer(tmp_path / target, tree(CLASSES) | {name: picture()}), tmp_path, "leaves the folder")


def tar_member(tmp_path, **attributes):
    path = tmp_path / "images.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in tree(CLASSES).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo("dog/x.png")
        for key, value in attributes.items():
            setattr(member, key, value)
        archive.addfile(member)
    return path


def test_links_and_devices_in_a_tar_are_refused(tmp_path):
    for kind, told in [
        (tarfile.SYMTYPE, "dog/x.png is a link"),
        (tarfile.LNKTYPE, "dog/x.png is a link"),
        (tarfile.FIFOTYPE, "dog/x.png is not a regular file"),
        (tarfile.CHRTYPE, "dog/x.png is not a regular file"),
    ]:
        refuse(tar_member(tmp_path, type=kind, linkname="../../etc/passwd"), tmp_path, told)


def test_links_and_passwords_in_a_zip_are_refused(tmp_path):
    path = tmp_path / "images.zip"
    link = zipfile.ZipInfo("dog/x.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "../../etc/passwd")
    refuse(path, tmp_path, "dog/x.png is a link")
    content = bytearray(write_zip(path, {"dog/x.png": picture()}).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refuse(path, tmp_path, "dog/x.png is encrypted")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_member_that_is_there_twice_is_refused(tmp_path, kind):
    path = tmp_path / WRITERS[kind][1]
    if kind == "tar":
        path = tar_member(tmp_path, name="dog/0.png")
    else:
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
            for _ in range(2):
                archive.writestr("dog/0.png", picture())
    refuse(path, tmp_path, "dog/0.png is there twice")


def test_archive_bombs_are_not_unpacked(tmp_path, monkeypatch):
    zeros = {"dog/x.png": bytes(20_000_000)}
    monkeypatch.setattr(file_trees, "MAXIMUM_FILE_BYTES", 10_000_000)
    for kind in ("tar", "zip"):
        writer, target = WRITERS[kind]
        refuse(writer(tmp_path / target, zeros), tmp_path, "20000000 bytes, more than the limit of 10000000")
    # Many files that are small each, and files that are skipped.
    monkeypatch.setattr(file_trees, "MAXIMUM_TREE_BYTES", 20_000_000)
    parts = {f"dog/{number}.txt": bytes(9_000_000) for number in range(3)}
    for kind in ("tar", "zip"):
        writer, target = WRITERS[kind]
        refuse(writer(tmp_path / target, parts), tmp_path, "unpacks to more than the limit of 20000000")


def test_a_tar_with_a_name_of_megabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(file_trees, "MAXIMUM_FILE_BYTES", 1_000_000)
    path = write_tar(tmp_path / "images.tar.gz", {"a" * 3_000_000 + ".png": picture()})
    refuse(path, tmp_path, "more than the limit of 1000000")


def test_a_zip_member_longer_than_its_header_is_refused(tmp_path):
    path = write_zip(tmp_path / "images.zip", tree(CLASSES))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    size = struct.unpack_from("<I", content, entry + 24)[0]
    struct.pack_into("<I", content, entry + 24, size - 10)
    path.write_bytes(content)
    refuse(path, tmp_path, "images.zip")


def test_too_many_pixels_in_all_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_folder, "MAXIMUM_DECODED_BYTES", 100)
    refuse(write_folder(tmp_path / "images", tree(CLASSES)), tmp_path, "decodes to more than 100 bytes")


def test_a_tar_cut_short_inside_whole_gzip_is_refused(tmp_path):
    import gzip

    path = write_tar(tmp_path / "images.tar.gz", tree(CLASSES))
    inner = gzip.decompress(path.read_bytes())
    for keep, told in [(512 * 4, "no end mark"), (512 * 3 + 20, ""), (700, "unexpected end")]:
        path.write_bytes(gzip.compress(inner[:keep]))
        refuse(path, tmp_path, told)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_damaged_archives_are_refused_or_read_whole(tmp_path, kind, seed):
    """What a checksum covers is refused; what none covers (a time stamp) leaves the images as they were."""
    writer, target = WRITERS[kind]
    path = writer(tmp_path / target, tree(CLASSES))
    whole = read_image_folder(path).images
    rng = random.Random(seed)
    damaged = bytearray(path.read_bytes())
    place = rng.randrange(len(damaged))
    if seed % 3 == 0:
        del damaged[place:]
    elif seed % 3 == 1:
        damaged[place] ^= 1 << rng.randrange(8)
    else:
        damaged[place : place + 16] = rng.randbytes(16)
    path.write_bytes(damaged)
    output = tmp_path / "data"
    try:
        prepare(path, output)
    except DataError as error:
        assert target in str(error) and len(str(error).splitlines()) == 1
        assert not output.exists()
    else:
        arrays = read_arrays(output)[0]
        images = np.concatenate([arrays["images_train"], arrays["images_test"]])
        assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in whole)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_zip_with_damaged_members_is_one_line_whatever_packed_it(tmp_path, method):
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in tree(CLASSES, size=(60, 50)).items():
            archive.writestr(name, content)
    whole = path.read_bytes()
    for seed in range(40):
        rng = random.Random(seed)
        damaged = bytearray(whole)
        damaged[(place := 40 + rng.randrange(2000)) : place + 8] = rng.randbytes(8)
        path.write_bytes(damaged)
        with pytest.raises(DataError) as refused:
            read_image_folder(path)
        assert len(str(refused.value).splitlines()) == 1


# --- real input ---


@pytest.mark.skipif(not CIFAR.is_file(), reason="needs ../shared/data/cifar10-jpeg.tar.gz beside the checkout")
def test_cifar_is_read_as_it_is(tmp_path):
    prepare(CIFAR, tmp_path / "data", image_shape=[32, 32, 3], classes=10)
    arrays, metadata = read_arrays(tmp_path / "data")
    assert arrays["images_train"].shape == (10_000, 32, 32, 3) and arrays["images_test"].shape == (
        2_000,
        32,
        32,
        3,
    )
    assert np.bincount(arrays["labels_train"]).tolist() == [1000] * 10
    assert np.bincount(arrays["labels_test"]).tolist() == [200] * 10
    assert metadata["class_names"][:3] == ["airplane", "automobile", "bird"]
    with tarfile.open(CIFAR) as archive:
        expected = np.asarray(Image.open(archive.extractfile("test/frog/" + "0149.jpg")))
    frogs = arrays["images_test"][arrays["labels_test"] == 6]
    assert any(np.array_equal(frog, expected) for frog in frogs)
