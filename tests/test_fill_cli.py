"""`inpaint fill`: files of every kind in, files like them out, and no input ever written to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inpaint_cli import main
from inpaint_models import fill, load_pretrained
from inpaint_models.files import replacing
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin
from safetensors.torch import save_file
from test_fill import trained

pytestmark = pytest.mark.usefixtures("one_thread")

HOLE = (slice(10, 16), slice(20, 28))
Pixels = NDArray[Any]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a network and a mask of 60 x 44 pixels, white where the hole is."""
    monkeypatch.chdir(tmp_path)
    options = '{"width": 4, "levels": 3}'
    save_file(
        trained().state_dict(), "net.safetensors", {"model": "pconv_unet", "options": options}
    )
    mask = np.zeros((44, 60), np.uint8)
    mask[HOLE] = 255
    Image.fromarray(mask).save("mask.png")


def _pixels(height: int = 44, width: int = 60) -> NDArray[np.uint8]:
    """Smooth, so that JPEG changes little."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x * a + y * b) for a, b in ((0.1, 0.05), (0.02, 0.15), (0.2, 0.1))]
    return np.stack(waves, -1).astype(np.uint8)


def _known() -> NDArray[np.bool_]:
    known = np.ones((44, 60), bool)
    known[HOLE] = False
    return known


def _run(*words: object) -> int:
    return main(["fill", "--model", "net.safetensors", *map(str, words)])


def _filled(pixels: Pixels, known: NDArray[np.bool_]) -> Pixels:
    return fill(pixels, known, model=load_pretrained("net.safetensors"))


def _open(path: str) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_picture_is_filled_where_the_mask_is_white(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(_pixels()).save("a.png")
    assert _run("a.png", "mask.png", "-o", "b.png") == 0
    assert capsys.readouterr().out == "b.png: 1.82% filled\n"
    assert np.array_equal(_open("b.png"), _filled(_pixels(), _known()))
    assert np.array_equal(_open("a.png"), _pixels())


def test_the_other_polarity_and_masks_of_other_kinds_mean_the_same() -> None:
    Image.fromarray(_pixels()).save("a.png")
    hole = ~_known()
    Image.fromarray(~hole).save("bits.png")
    Image.fromarray((~hole).astype(np.uint8) * 255).save("lossy.jpg", quality=60)
    for name in ("bits.png", "lossy.jpg"):
        out = f"from-{name}.png"
        assert _run("a.png", name, "-o", out, "--polarity", "white=valid") == 0
        assert np.array_equal(_open(out), _filled(_pixels(), ~hole))
    Image.fromarray(hole.astype(np.uint16) * 65535).save("wide.png")
    assert _run("a.png", "wide.png", "-o", "from-wide.png") == 0
    assert np.array_equal(_open("from-wide.png"), _filled(_pixels(), ~hole))


def test_what_is_not_opaque_is_the_hole_without_a_mask() -> None:
    alpha = np.where(_known(), 255, 0).astype(np.uint8)
    alpha[9, 20:28] = 200
    Image.fromarray(np.dstack([_pixels(), alpha])).save("a.png")
    assert _run("a.png", "-o", "b.png") == 0
    expected = _filled(_pixels(), alpha == 255)
    assert np.array_equal(_open("b.png"), np.dstack([expected, np.full_like(alpha, 255)]))
    # Formats without alpha take what is opaque now.
    assert _run("a.png", "-o", "b.bmp") == 0
    assert np.array_equal(_open("b.bmp"), expected)


def test_a_colour_marks_the_hole() -> None:
    marked = _pixels()
    marked[HOLE] = (255, 0, 255)
    Image.fromarray(marked).save("a.png")
    assert _run("a.png", "-o", "b.png", "--hole-colour", "#ff00ff") == 0
    assert np.array_equal(_open("b.png"), _filled(_pixels(), _known()))
    marked[10, 20] = (250, 4, 251)
    Image.fromarray(marked).save("a.png")
    assert _run("a.png", "-o", "c.png", "--hole-colour", "magenta", "--tolerance", "5") == 0
    assert np.array_equal(_open("c.png"), _filled(_pixels(), _known()))
    assert _run("a.png", "-o", "d.png", "--hole-colour", "magenta", "--tolerance", "4") == 0
    assert tuple(_open("d.png")[10, 20]) == (250, 4, 251)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_the_orientation_is_kept(orientation: int, suffix: str) -> None:
    """The mask is drawn on what is seen; the file says how to turn what is stored, as before."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "a title"
    stored = _pixels() if orientation < 5 else _pixels(60, 44)
    Image.fromarray(stored).save(f"a.{suffix}", exif=exif, lossless=True)
    assert _run(f"a.{suffix}", "mask.png", "-o", f"b.{suffix}") == 0
    with Image.open(f"a.{suffix}") as before, Image.open(f"b.{suffix}") as after:
        assert after.size == before.size
        assert dict(after.getexif()) == {0x0112: orientation, 0x010E: "a title"}
        seen, expected = (np.asarray(ImageOps.exif_transpose(x)) for x in (after, before))
    expected = _filled(expected, _known())
    difference = np.abs(seen.astype(int) - expected)
    # In a JPEG, what is next to the hole changes with it.
    assert difference.mean() <= (4 if suffix == "jpg" else 0)


def test_what_is_known_stays_under_transparency() -> None:
    image = Image.fromarray(np.dstack([_pixels(), np.full((44, 60), 255, np.uint8)]))
    image.paste((9, 8, 7, 0), (0, 0, 9, 9))
    image.save("a.png")
    for out in ("b.webp", "b.png"):
        assert _run("a.png", "mask.png", "-o", out) == 0
        assert np.array_equal(_open(out)[_known()], np.asarray(image)[_known()])


def test_a_pgm_is_grey(capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ("L", "I;16"):
        MODES[mode]().save("grey.png")
        assert _run("grey.png", "mask.png", "-o", "b.pgm", "--force") == 0
        assert Path("b.pgm").read_bytes().startswith(b"P5")
    Path("b.pgm").unlink()
    Image.fromarray(_pixels()).save("a.png")
    assert _run("a.png", "mask.png", "-o", "b.pgm") == 1
    assert "b.pgm: a .pgm is grey and holds no picture of mode RGB" in capsys.readouterr().err
    assert not Path("b.pgm").exists()


def test_a_mask_that_is_mostly_hole_brings_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(_pixels()).save("a.png")
    assert _run("a.png", "mask.png", "-o", "b.png") == 0
    assert not capsys.readouterr().err
    assert _run("a.png", "mask.png", "-o", "c.png", "--polarity", "white=valid") == 0
    said = "inpaint: 98.2% of a.png is hole: is white the hole? see --polarity\n"
    assert capsys.readouterr().err == said


def test_a_colour_that_is_nowhere_brings_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(_pixels()).save("a.png")
    assert _run("a.png", "-o", "b.png", "--hole-colour", "red") == 0
    said = capsys.readouterr()
    assert said.out == "b.png: a copy, there is no hole\n"
    assert said.err == "inpaint: a.png has no pixel of red: near ones need --tolerance\n"


def test_a_format_without_exif_is_written_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_pixels(60, 44)).save("a.png", exif=exif)
    for out in ("b.bmp", "b.tif"):
        assert _run("a.png", "mask.png", "-o", out) == 0
        with Image.open(out) as image:
            assert image.size == (60, 44)
            assert image.getexif().get(0x0112, 1) == 1
            upright = np.rot90(_pixels(60, 44), -1)
            assert np.array_equal(np.asarray(image), _filled(upright, _known()))


def _exif_with_thumbnail(thumbnail: bytes) -> bytes:
    """One entry, then a second directory with a JPEG: what cameras write, and Pillow does not."""
    import struct

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        return struct.pack("<HHII", tag, kind, count, value)

    first = struct.pack("<H", 1) + struct.pack("<HHIHH", 0x0112, 3, 1, 3, 0)
    second_at = 8 + len(first) + 4
    second = struct.pack("<H", 2)
    data_at = second_at + 2 + 2 * 12 + 4
    second += entry(0x0201, 4, 1, data_at) + entry(0x0202, 4, 1, len(thumbnail))
    header = b"II*\0" + struct.pack("<I", 8)
    body = header + first + struct.pack("<I", second_at) + second + struct.pack("<I", 0)
    return b"Exif\0\0" + body + thumbnail


def test_the_thumbnail_of_what_has_been_removed_is_not_kept() -> None:
    thumbnail = b"\xff\xd8 the picture before \xff\xd9"
    Image.fromarray(_pixels()).save("a.jpg", exif=_exif_with_thumbnail(thumbnail))
    assert thumbnail in Path("a.jpg").read_bytes()
    assert _run("a.jpg", "mask.png", "-o", "b.jpg") == 0
    assert thumbnail not in Path("b.jpg").read_bytes()
    with Image.open("b.jpg") as image:
        assert image.getexif()[0x0112] == 3


def test_colour_profile_resolution_and_texts_are_kept() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "me")
    image = Image.fromarray(_pixels())
    image.save("a.png", icc_profile=b"a profile", dpi=(300, 300), pnginfo=texts)
    assert _run("a.png", "mask.png", "-o", "b.png") == 0
    with Image.open("b.png") as after:
        assert after.info["icc_profile"] == b"a profile"
        assert after.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert after.info["Author"] == "me"


def test_a_jpeg_is_written_with_its_own_tables() -> None:
    """So that what is known loses next to nothing a second time."""
    Image.fromarray(_pixels()).save("a.jpg", quality=35, subsampling=0)
    assert _run("a.jpg", "mask.png", "-o", "b.jpg") == 0
    with Image.open("a.jpg") as before, Image.open("b.jpg") as after:
        assert after.quantization == before.quantization  # type: ignore[attr-defined]
    far = _known()
    far[8:16, 16:32] = False  # the blocks that the hole lies in
    assert np.abs(_open("a.jpg").astype(int) - _open("b.jpg"))[far].mean() < 0.5


MODES: dict[str, Callable[[], Image.Image]] = {
    "L": lambda: Image.fromarray(_pixels()[:, :, 0]),
    "1": lambda: Image.fromarray(_pixels()[:, :, 0] > 127),
    "I;16": lambda: Image.fromarray(_pixels()[:, :, 0].astype(np.uint16) * 250),
    "LA": lambda: Image.fromarray(_pixels()[:, :, 0]).convert("LA"),
    "RGBA": lambda: Image.fromarray(_pixels()).convert("RGBA"),
}


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("mode", MODES)
def test_modes_stay(mode: str, suffix: str) -> None:
    MODES[mode]().save(f"a.{suffix}")
    assert _run(f"a.{suffix}", "mask.png", "-o", f"b.{suffix}") == 0
    with Image.open(f"b.{suffix}") as image:
        assert image.mode == mode
        known, after = _known(), np.asarray(image)
    before = _open(f"a.{suffix}")
    assert np.array_equal(after[known], before[known])
    assert not np.array_equal(after, before)


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_becomes_full_colour(transparent: bool) -> None:
    image = Image.fromarray(_pixels()).quantize(64)
    if transparent:
        image.info["transparency"] = 3
    image.save("a.png")
    assert _run("a.png", "mask.png", "-o", "b.png") == 0
    with Image.open("a.png") as before, Image.open("b.png") as after:
        assert after.mode == ("RGBA" if transparent else "RGB")
        expected = np.asarray(before.convert(after.mode))
        assert np.array_equal(np.asarray(after)[_known()], expected[_known()])


def _two_frames(path: str) -> str:
    frame = Image.fromarray(_pixels())
    frame.save(path, save_all=True, append_images=[Image.fromarray(_pixels()[::-1].copy())])
    return path


def _cut_off(path: str) -> str:
    Path(path).write_bytes(Path("a.png").read_bytes()[:900])
    return path


def test_of_several_pictures_of_a_phone_the_first_is_filled() -> None:
    _two_frames("phone.mpo")
    Path("phone.mpo").rename("a.jpg")
    assert _run("a.jpg", "mask.png", "-o", "b.jpg") == 0
    with Image.open("b.jpg") as image:
        assert getattr(image, "n_frames", 1) == 1
        difference = np.abs(np.asarray(image).astype(int) - _pixels())
        assert difference[_known()].mean() < 5


def _wide_colour(path: str) -> str:
    """A PNG of 16 bits in three channels, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = zlib.compress(b"".join(b"\0" + bytes(6 * 60) for _ in range(44)))
    header = struct.pack(">IIBBBBB", 60, 44, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


REFUSED: dict[str, tuple[str, int, Callable[[], Sequence[object]]]] = {
    "no mask": ("a.png has no alpha channel: give MASK or --hole-colour", 2, lambda: ["a.png"]),
    "no picture": ("none.png: no such file or folder", 2, lambda: ["none.png", "mask.png"]),
    "no mask's file": ("none.png: no such file or folder", 2, lambda: ["a.png", "none.png"]),
    "both": (
        "give either MASK or --hole-colour",
        2,
        lambda: ["a.png", "mask.png", "--hole-colour", "red"],
    ),
    "colour": (
        "--hole-colour: unknown color specifier: 'pinkish'",
        2,
        lambda: ["a.png", "--hole-colour", "pinkish"],
    ),
    "tolerance": (
        "--tolerance must be from 0 to 255, got -1",
        2,
        lambda: ["a.png", "--hole-colour", "red", "--tolerance", "-1"],
    ),
    "a mask of 0 and 1": (
        "ones.png is not a mask: its values are 0 to 1: a mask is black and white, 0 and 255",
        1,
        lambda: ["a.png", _save("ones.png", Image.fromarray((~_known()).astype(np.uint8)))],
    ),
    "a wide mask of 0 and 1": (
        "ones.png is not a mask: its values are 0 to 1: a mask is black and white, 0 and 65535",
        1,
        lambda: ["a.png", _save("ones.png", Image.fromarray((~_known()).astype(np.uint16)))],
    ),
    "a mask of white and nearly white": (
        "light.png is not a mask: its values are 250 to 255",
        1,
        lambda: [
            "a.png",
            _save("light.png", Image.fromarray(np.where(_known(), 255, 250).astype(np.uint8))),
        ],
    ),
    "other size": (
        "small.png has 7 x 5 pixels, but a.png has 60 x 44",
        1,
        lambda: ["a.png", _save("small.png", Image.new("L", (7, 5)))],
    ),
    "a photograph as mask": (
        "a.png is not a mask: ",
        1,
        lambda: ["a.png", "a.png"],
    ),
    "a transparent mask": (
        "clear.png is transparent: a mask must be black and white",
        1,
        lambda: ["a.png", _save("clear.png", Image.new("RGBA", (60, 44)))],
    ),
    "all hole": (
        "a.png: image has no known pixel",
        1,
        lambda: ["a.png", _save("white.png", Image.new("L", (60, 44), 255))],
    ),
    "CMYK": (
        "c.jpg: pictures of mode CMYK cannot be filled",
        1,
        lambda: [_save("c.jpg", Image.new("CMYK", (60, 44))), "mask.png"],
    ),
    "floats": (
        "f.tif: pictures of mode F cannot be filled",
        1,
        lambda: [_save("f.tif", Image.new("F", (60, 44))), "mask.png"],
    ),
    "16 bits in colour": (
        "wide.png: 16 bits per channel in colour cannot be kept",
        1,
        lambda: [_wide_colour("wide.png"), "mask.png"],
    ),
    "a transparent value in 16 bits": (
        "clear.png: transparency in grey of 1 or 16 bits cannot be kept",
        1,
        lambda: [_save("clear.png", MODES["I;16"](), transparency=7), "mask.png"],
    ),
    "a transparent value in 1 bit": (
        "clear.png: transparency in grey of 1 or 16 bits cannot be kept",
        1,
        lambda: [_save("clear.png", MODES["1"](), transparency=0), "mask.png"],
    ),
    "colour in 16 bits": (
        "deep.png has 16 bits: --hole-colour is for pictures of 8 bits",
        2,
        lambda: [_save("deep.png", MODES["I;16"]()), "--hole-colour", "red"],
    ),
    "animation": (
        "two.webp: 2 pictures in one file",
        1,
        lambda: [_two_frames("two.webp"), "mask.png"],
    ),
    "another format": (
        "a.gif is not a picture of the formats BMP, JPEG, PNG",
        1,
        lambda: [_save("a.gif", Image.new("L", (60, 44))), "mask.png"],
    ),
    "cut off": (
        "cut.png cannot be read: ",
        1,
        lambda: [_cut_off("cut.png"), "mask.png"],
    ),
    "a bomb": (
        "a.png: 60 x 44 pixels are more than max_pixels=2639",
        1,
        lambda: ["a.png", "mask.png", "--max-pixels", "2639"],
    ),
    "grids' options": (
        "--variable and --axes are for grids",
        2,
        lambda: ["a.png", "mask.png", "--axes", "HW"],
    ),
    "a small window": (
        "a.png: window must be at least",
        1,
        lambda: ["a.png", "mask.png", "--window", "20"],
    ),
    "a folder as mask": ("is a folder, but a.png is a file", 2, lambda: ["a.png", "."]),
}


def _save(path: str, image: Image.Image, **options: Any) -> str:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_filled_is_refused_in_one_line(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(_pixels()).save("a.png")
    said, code, words = REFUSED[case]
    assert _run(*words(), "-o", "out.png") == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(Path().glob("*out.png*"))


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("b.gif", "b.gif: pictures are written as .bmp, .jpeg"),
        ("b", "b is no folder that exists, and names no file: pictures are written as .bmp"),
        ("b/", "b is no folder that exists"),
        ("none/b.png", "none: no such folder"),
        ("b.jpg", "JPEG holds no picture of mode I;16"),
    ],
)
def test_a_result_that_cannot_be_written(
    out: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    MODES["I;16"]().save("a.png")
    assert _run("a.png", "mask.png", "-o", out) != 0
    assert said in capsys.readouterr().err
    assert not Path(out).exists()


def test_transparency_that_a_format_cannot_hold_is_not_dropped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = Image.fromarray(_pixels()).convert("RGBA")
    image.putpixel((0, 0), (1, 2, 3, 4))
    image.save("a.png")
    assert _run("a.png", "mask.png", "-o", "b.jpg") == 1
    assert "JPEG holds no transparency: write a .png" in capsys.readouterr().err


class TestNeverOverwriting:
    def _refused(self, out: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
        Image.fromarray(_pixels()).save("a.png")
        before = {path: path.read_bytes() for path in (Path("a.png"), Path("mask.png"))}
        for force in ([], ["--force"]):
            assert _run("a.png", "mask.png", "-o", out, *force) == 2
            assert said in capsys.readouterr().err
        assert {path: path.read_bytes() for path in before} == before

    def test_the_picture(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._refused("a.png", "a.png is a.png, an input, which is never written to", capsys)

    def test_the_mask(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._refused("mask.png", "mask.png is mask.png, an input", capsys)

    def test_through_a_link(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("link.png").symlink_to("a.png")
        self._refused("link.png", "link.png is a.png, an input", capsys)
        assert Path("link.png").is_symlink()

    def test_through_a_linked_folder(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("there").symlink_to(".")
        self._refused("there/a.png", "there/a.png is a.png, an input", capsys)

    def test_through_another_name_of_the_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        Image.fromarray(_pixels()).save("a.png")
        os.link("a.png", "same.png")
        self._refused("same.png", "same.png is a.png, an input", capsys)

    def test_a_folder_that_holds_the_picture(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._refused(".", "a.png is a.png, an input", capsys)

    def test_a_result_without_force(self, capsys: pytest.CaptureFixture[str]) -> None:
        Image.fromarray(_pixels()).save("a.png")
        Path("b.png").write_bytes(b"before")
        assert _run("a.png", "mask.png", "-o", "b.png") == 2
        assert "b.png is there already: give another OUT, or --force" in capsys.readouterr().err
        assert Path("b.png").read_bytes() == b"before"
        assert _run("a.png", "mask.png", "-o", "b.png", "--force") == 0
        assert np.array_equal(_open("b.png"), _filled(_pixels(), _known()))

    def test_a_result_is_whole_or_as_before(self) -> None:
        Path("b.png").write_bytes(b"before")

        def fail() -> None:
            with replacing(Path("b.png")) as temporary:
                temporary.write_bytes(b"half")
                raise OSError("no space left")

        with pytest.raises(OSError, match="no space left"):
            fail()
        assert Path("b.png").read_bytes() == b"before"
        assert not list(Path().glob(".b*"))

    def test_an_error_names_the_result_and_not_the_temporary_file(self) -> None:
        out = Path("none", "b.png")
        with pytest.raises(FileNotFoundError) as caught, replacing(out) as temporary:
            temporary.write_bytes(b"")
        assert caught.value.filename == str(out)


def test_without_a_hole_there_is_a_copy(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(_pixels()).save("a.png")
    Image.new("L", (60, 44)).save("black.png")
    assert _run("a.png", "black.png", "-o", "b.png") == 0
    assert capsys.readouterr().out == "b.png: a copy, there is no hole\n"
    assert np.array_equal(_open("b.png"), _pixels())


def test_pillows_own_limit_is_left_as_it_is() -> None:
    before = Image.MAX_IMAGE_PIXELS
    Image.fromarray(_pixels()).save("a.png")
    assert _run("a.png", "mask.png", "-o", "b.png", "--max-pixels", "2640") == 0
    assert before == Image.MAX_IMAGE_PIXELS


class TestFolders:
    @pytest.fixture(autouse=True)
    def _pictures(self) -> None:
        for folder in ("photos/sub", "masks/sub"):
            Path(folder).mkdir(parents=True)
        for name in ("one.png", "two.bmp", "sub/three.png"):
            Image.fromarray(_pixels()).save(f"photos/{name}")
            Image.open("mask.png").save(f"masks/{Path(name).with_suffix('.png')}")
        Path("photos/notes.txt").write_text("no picture")

    def _are_filled(self, *names: str) -> None:
        found = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file()}
        assert found == set(names)
        for name in names:
            assert np.array_equal(_open(f"out/{name}"), _filled(_pixels(), _known()))

    def test_each_picture_has_the_mask_of_its_name(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert _run("photos", "masks", "-o", "out") == 0
        self._are_filled("one.png", "two.bmp", "sub/three.png")
        lines = capsys.readouterr().out.splitlines()
        assert lines == [f"out/{n}: 1.82% filled" for n in ("one.png", "sub/three.png", "two.bmp")]

    def test_a_folder_of_masks_is_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And not once for each of its pictures, whose number would count twice."""
        read: list[Path] = []
        glob = Path.glob

        def watched(self: Path, pattern: str, **options: Any) -> Iterator[Path]:
            read.append(self)
            return glob(self, pattern, **options)

        monkeypatch.setattr(Path, "glob", watched)
        assert _run("photos", "masks", "-o", "out") == 0
        assert sorted(path for path in read if path.parts[0] == "masks") == [
            Path("masks"),
            Path("masks/sub"),
        ]

    def test_a_terminal_shows_how_far_it_is(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
        monkeypatch.setenv("TERM", "xterm")
        assert _run("photos", "masks", "-o", "out") == 0
        assert "3/3" in capsys.readouterr().err
        monkeypatch.delenv("FORCE_COLOR")
        assert _run("photos", "masks", "-o", "out", "--force") == 0
        assert capsys.readouterr().err == ""

    def test_one_mask_serves_all(self) -> None:
        assert _run("photos", "mask.png", "-o", "out") == 0
        self._are_filled("one.png", "two.bmp", "sub/three.png")

    def test_broken_ones_are_named_and_the_others_filled(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("photos/two.bmp").write_bytes(b"BM, and no more")
        Path("masks/sub/three.png").unlink()
        assert _run("photos", "masks", "-o", "out") == 1
        self._are_filled("one.png")
        without, broken, count = capsys.readouterr().err.splitlines()
        assert broken.startswith("inpaint: photos/two.bmp ")
        assert without == (
            "inpaint: photos/sub/three.png: expected one mask masks/sub/three.*, found none"
        )
        assert count == "inpaint: 2 of 3 pictures could not be filled, see above"

    def test_two_masks_of_a_name_are_one_too_many(self, capsys: pytest.CaptureFixture[str]) -> None:
        Image.open("mask.png").save("masks/one.bmp")
        assert _run("photos", "masks", "-o", "out") == 1
        assert "expected one mask masks/one.*, found one.bmp, one.png" in capsys.readouterr().err

    def test_results_and_masks_inside_are_no_pictures(self) -> None:
        Path("masks").rename("photos/masks")
        assert _run("photos", "photos/masks", "-o", "photos/out") == 0
        assert _run("photos", "photos/masks", "-o", "photos/out", "--force") == 0
        found = sorted(p.name for p in Path("photos/out").rglob("*.*"))
        assert found == ["one.png", "three.png", "two.bmp"]

    def test_results_may_go_beside_the_folder(self) -> None:
        """OUT holds the pictures and the masks."""
        Path("photos/sub/three.png").unlink()
        assert _run("photos", "masks", "-o", ".") == 0
        for name in ("one.png", "two.bmp"):
            assert np.array_equal(_open(name), _filled(_pixels(), _known()))

    def test_another_pictures_input_is_never_written_to(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Through links: what the first would write is the second's mask, or the second itself."""
        for other in ("masks/sub/three.png", "photos/two.bmp"):
            out = Path(other).parent.name + "-out"
            Path(out).mkdir()
            os.link(other, f"{out}/one.png")
            before = Path(other).read_bytes()
            assert _run("photos", "masks", "-o", out, "--force") == 2
            said = f"{out}/one.png is {other}, an input, which is never written to"
            assert said in capsys.readouterr().err
            assert Path(other).read_bytes() == before
            assert [path.name for path in Path(out).iterdir()] == ["one.png"]

    def test_what_is_there_is_left_without_force(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("out").mkdir()
        Path("out/one.png").write_bytes(b"before")
        assert _run("photos", "masks", "-o", "out") == 1
        assert "out/one.png is there already" in capsys.readouterr().err
        assert Path("out/one.png").read_bytes() == b"before"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("photos", "masks", "-o", "photos"), "photos is the folder of the pictures"),
            (("photos", "photos", "-o", "out"), "for the pictures and for the masks"),
            (("photos", "masks", "-o", "mask.png"), "mask.png is a file, but photos is a folder"),
            (("empty", "mask.png", "-o", "out"), "empty: no picture here"),
        ],
    )
    def test_folders_that_do_not_go_together(
        self, words: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("empty").mkdir()
        assert _run(*words) == 2
        assert said in capsys.readouterr().err
