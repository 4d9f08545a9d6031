"""The demo's page in a real browser: painted on, confirmed, reverted, saved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from demo_pages import Hand, Server, distances, find_chromium, open_page, serve
from demo_weights import write_weights
from inpaint_models.demo.pictures import EDGE
from numpy.typing import NDArray
from PIL import Image, ImageOps

MEBIBYTE = 2**20
CHROMIUM = find_chromium()


@pytest.fixture(scope="module")
def chromium() -> str:
    if CHROMIUM is None:
        missing = "no chromium on PATH (Debian: apt-get install chromium)"
        if os.environ.get("INPAINT_NEEDS_CHROMIUM") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return CHROMIUM


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("weights")
    return [str(write_weights(folder / f"{i}.safetensors", seed=i)) for i in range(2)]


@pytest.fixture(scope="module")
def server(
    chromium: str, weights: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serve(folder, "--model", *weights, "--max-size", "1") as running:
        yield running


@pytest.fixture(scope="module")
def hand(server: Server, chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    with open_page(server.address, chromium, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def _draw(width: int, height: int) -> Image.Image:
    """Smooth: the screen need not be met to the pixel."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(4 * x / width + i) + np.cos(3 * y / height - i) for i in range(3)]
    return Image.fromarray((127 + 60 * np.stack(waves, -1)).astype(np.uint8))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    picture = tmp_path_factory.mktemp("pictures") / "small.png"
    _draw(300, 260).save(picture)
    return picture


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger than what is shown, and lying on its side."""
    picture = tmp_path_factory.mktemp("pictures") / "large.jpg"
    exif = Image.Exif()
    exif[274] = 6
    _draw(1300, 700).rotate(90, expand=True).save(picture, exif=exif)
    return picture


def _upright(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        return ImageOps.exif_transpose(picture)


def _begin(hand: Hand, file: Path) -> Image.Image:
    """Upload a picture; what it is."""
    picture = _upright(file)
    hand.choose_file(file)
    hand.wait_for_status(f"{picture.width} x {picture.height} pixels, as uploaded")
    hand.wait_for_input(picture)
    return picture


def _differ(a: Image.Image, b: Image.Image) -> NDArray[np.bool_]:
    assert a.size == b.size
    assert a.mode == b.mode
    found: NDArray[np.bool_] = (np.asarray(a) != np.asarray(b)).any(-1)
    return found


def test_only_what_is_painted_changes(hand: Hand, photograph: Path, tmp_path: Path) -> None:
    before = _begin(hand, photograph)
    start, end = (-120.0, -30.0), (90.0, 40.0)
    widths = {}
    for size in (5, 40):
        hand.choose_brush(size)
        hand.stroke([start, end])
        hand.wait_for_status("% painted, filled by")
        hand.page.locator("#result img").wait_for()
        after = hand.save(tmp_path / "inpainted.png")
        changed = _differ(before, after)
        far = distances(before.size, start, end)
        # The zoom is known to half a hundredth of where the stroke is; then the edges of pixels.
        slack = 0.01 * 126 + 2
        assert not changed[far > size / 2 + slack].any()
        widths[size] = changed.sum() / np.hypot(210, 70) / (1300 / EDGE) ** 2
        hand.press("Revert")
        hand.wait_for_status("as uploaded")
        hand.wait_for_input(before)
    # Round ends add to a stroke's length.
    assert 4 < widths[5] < 7
    assert 36 < widths[40] < 47
    assert changed[far < 40 / 2 - slack].mean() > 0.95


def test_results_are_confirmed_and_reverted(hand: Hand, file: Path, tmp_path: Path) -> None:
    before = _begin(hand, file)
    for button in ("Confirm", "Save", "Revert"):
        hand.press(button)
        hand.wait_for_message("nothing")
    hand.choose_brush(40)
    inputs = [before]
    for step, below in enumerate((-60.0, 60.0), 1):
        hand.stroke([(-60, below), (60, below)])
        hand.wait_for_status("% painted")
        result = hand.save(tmp_path / "inpainted.png")
        assert _differ(result, inputs[-1]).any()
        hand.press("Confirm")
        hand.wait_for_status(f"{step} confirmed")
        hand.wait_for_input(result)
        hand.page.locator("#result img").wait_for(state="detached")
        inputs.append(result)
    assert not _differ(hand.save(tmp_path / "inpainted.png"), inputs[2]).any()
    hand.stroke([(0, -50), (0, 50)])
    hand.wait_for_status("% painted")
    for standing, expected in (("2 confirmed", 2), ("1 confirmed", 1), ("as uploaded", 0)):
        hand.press("Revert")
        hand.wait_for_status(standing)
        hand.wait_for_input(inputs[expected])
        if expected == 1:
            assert not _differ(hand.save(tmp_path / "inpainted.png"), inputs[1]).any()
    hand.press("Revert")
    hand.wait_for_message("nothing to revert: this is the picture as it was uploaded")


def test_another_network_fills_what_is_painted(
    hand: Hand, file: Path, weights: list[str], tmp_path: Path
) -> None:
    before = _begin(hand, file)
    hand.choose_brush(40)
    hand.stroke([(-60, 0), (60, 0)])
    saved: list[Image.Image] = []
    for network in (*weights, weights[0]):
        if saved:
            hand.choose_model(network)
        hand.wait_for_status(f"% painted, filled by {network} ")
        saved.append(hand.save(tmp_path / "inpainted.png"))
    hole = _differ(saved[0], before)
    assert _differ(saved[0], saved[1])[hole].mean() > 0.8
    assert not _differ(saved[0], saved[1])[~hole].any()
    assert not _differ(saved[0], saved[2]).any()


def test_the_editors_own_buttons_keep_the_picture(hand: Hand, file: Path) -> None:
    before = _begin(hand, file)
    for button in ("Undo", "Clear canvas"):
        hand.stroke([(-60, 0), (60, 0)])
        hand.wait_for_status("% painted")
        hand.page.get_by_label(button, exact=True).first.click()
        hand.wait_for_status("as uploaded")
        hand.wait_for_input(before)
        hand.page.locator("#result img").wait_for(state="detached")


def test_what_is_too_large_or_no_picture_is_refused(
    hand: Hand, server: Server, file: Path, tmp_path: Path
) -> None:
    before = _begin(hand, file)
    large = tmp_path / "large.png"
    large.write_bytes(bytes(MEBIBYTE + 1))
    hand.choose_file(large)
    hand.wait_for_message("exceed the maximum allowed size of 1.0 MB")
    broken = tmp_path / "broken.png"
    broken.write_bytes(bytes(1000))
    hand.choose_file(broken)
    hand.wait_for_message("this is no picture that can be read")
    hand.wait_for_input(before)
    # Not only by the page.
    upload = f"{server.address}gradio_api/upload"
    for path, size in ((upload, MEBIBYTE + 1), (server.address, 18 * MEBIBYTE)):
        answer = httpx.post(path, files={"files": ("large.png", bytes(size))}, trust_env=False)
        assert answer.status_code == 413


def test_a_picture_for_the_documents_is_drawn(
    chromium: str, weights: list[str], tmp_path: Path
) -> None:
    picture = tmp_path / "demo.webp"
    script = Path(__file__).parent / "demo_picture.py"
    command = [sys.executable, str(script), weights[0], str(picture)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as drawn:
        assert drawn.size == (1280, 860)


def test_the_page_asks_nobody_but_its_server(hand: Hand, server: Server, file: Path) -> None:
    _begin(hand, file)
    hand.stroke([(-60, 0), (60, 0)])
    hand.wait_for_status("% painted")
    here = urlsplit(server.address).netloc
    asked = [url for url in hand.requests if urlsplit(url).scheme not in ("blob", "data")]
    assert len(asked) > 20
    assert {urlsplit(url).netloc for url in asked} == {here}
    # What a browser connects to without a request: preconnect, prefetch.
    linked = hand.page.eval_on_selector_all(
        "link[href], script[src], img[src], iframe[src]", "all => all.map(e => e.href || e.src)"
    )
    assert linked
    assert {urlsplit(url).netloc for url in linked} <= {here, ""}


def test_ctrl_c_ends_it_and_nothing_is_left(hand: Hand, server: Server, file: Path) -> None:
    _begin(hand, file)
    temporary, home = server.folder / "tmp", server.folder / "home"
    assert any(path.is_file() for path in temporary.rglob("*"))
    code, printed = server.stop(signal.SIGINT)
    assert (code, printed) == (130, "inpaint: stopped\n")
    assert list(temporary.iterdir()) == []
    # matplotlib keeps a list of fonts.
    left = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in left if "matplotlib" not in path.parts] == []
