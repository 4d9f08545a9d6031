"""The demo in a browser: its server as a process, and what a hand does on its page."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from inpaint_models.demo.pictures import EDGE
from numpy.typing import NDArray
from PIL import Image, ImageChops
from playwright.sync_api import Locator, Page, sync_playwright

Point = tuple[float, float]
"""Pixels to the right of the picture's middle, and below it, as the page shows it."""

_BLOCK = 10
_DIFFERENT = 45
"""So much of 255 is no error of the zoom's: half of it is what strokes add to a mean grey."""


def find_chromium() -> str | None:
    """Where Chromium is, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Server(NamedTuple):
    """A running `inpaint demo`.

    Attributes:
        process: with its standard output and errors as one text.
        address: of its page.
        printed: before the address.
        folder: has its `home`, which is the current folder too, and `tmp`.
    """

    process: subprocess.Popen[str]
    address: str
    printed: str
    folder: Path

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Send a signal; the exit code, and what has been printed since the address."""
        self.process.send_signal(number)
        printed, _ = self.process.communicate(timeout=60)
        return self.process.returncode, printed


@contextmanager
def serve(folder: Path, *arguments: str) -> Iterator[Server]:
    """`inpaint demo` on a free port, ended afterwards if it is still there."""
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    places = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    process = subprocess.Popen(
        [sys.executable, "-m", "inpaint_cli", "demo", "--port", "0", *arguments],
        cwd=folder / "home", env={**os.environ, **places, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # As in a terminal: what a shell puts into the background ignores Ctrl-C, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            found = re.match(r"inpaint demo: (http://\S+) ", line)
            if found:
                yield Server(process, found[1], "".join(printed), folder)
                break
        else:
            raise AssertionError(f"the demo has not started: {''.join(printed)}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def open_page(address: str, chromium: str, profile: Path) -> Iterator[Hand]:
    """The page in a headless Chromium that can reach nothing but this machine."""
    arguments = [
        "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, args=arguments,
            viewport={"width": 1280, "height": 860}, accept_downloads=True,
        )  # fmt: skip
        try:
            browser.set_default_timeout(60_000)
            yield Hand(browser.pages[0], address)
        finally:
            browser.close()


class Hand:
    """What a user does and sees.

    Attributes:
        page: of Playwright.
        requests: addresses of all that the page has asked for.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.requests: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(address)
        self._canvas.wait_for()

    @property
    def _canvas(self) -> Locator:
        return self.page.locator("#editor canvas").last

    @property
    def status(self) -> str:
        """The line that says how things stand."""
        return self.page.locator("#status").inner_text()

    def wait_for_status(self, words: str) -> None:
        """Until the status has these words."""
        self.page.locator("#status").get_by_text(words).wait_for()

    def wait_for_another_status(self, status: str) -> None:
        """Until the status is none of before, and the result is there."""
        self._wait(lambda: self.status != status, f"another status than {status!r}")
        self.page.locator("#result [data-testid=status-tracker].hide").wait_for(state="attached")
        self.page.locator("#result img").wait_for()

    def wait_for_message(self, words: str) -> None:
        """Until such a message has appeared; it is closed, so that the next one is another."""
        message = self.page.get_by_test_id("toast-body").filter(has_text=words)
        message.wait_for()
        message.get_by_test_id("toast-close").click()
        message.wait_for(state="hidden")

    def choose_file(self, file: Path) -> None:
        """Upload a file."""
        with self.page.expect_file_chooser() as chooser:
            self.press("Upload")
        chooser.value.set_files(file)

    def press(self, button: str) -> None:
        """Press one of the buttons, by its text."""
        self.page.get_by_role("button", name=button, exact=True).click()

    def choose_model(self, name: str) -> None:
        """Choose from the list of models and checkpoints."""
        self.page.locator("#model input").click()
        self.page.get_by_role("option", name=name, exact=True).click()

    def choose_brush(self, size: int) -> None:
        """Type a size of the brush, and wait until the brush has it: a ring around the mouse."""
        field = self.page.locator("#brush input[type=number]")
        field.fill(str(size))
        field.press("Tab")
        self.page.mouse.move(1, 1)
        without = self._middle(160, 160)

        def has_it() -> bool:
            self.page.mouse.move(*self._centre())
            box = ImageChops.difference(self._middle(160, 160), without).getbbox()
            return box is not None and abs(box[2] - box[0] - size * self.zoom) < 5

        self._wait(has_it, f"a brush of {size}")

    def save(self, file: Path) -> Image.Image:
        """Press Save; the picture that is downloaded, to `file`."""
        with self.page.expect_download() as download:
            self.press("Save")
        assert download.value.suggested_filename == file.name
        download.value.save_as(file)
        with Image.open(file) as picture:
            picture.load()
        return picture

    @property
    def zoom(self) -> float:
        """Pixels of the screen for a pixel of what is shown, to within half a hundredth."""
        text = self.page.locator("#editor .zoom-number").inner_text()
        return float(text.strip().rstrip("%")) / 100

    def wait_for_input(self, picture: Image.Image) -> None:
        """Until the editor shows this picture around its middle, and no strokes there."""
        # The brush follows the mouse.
        self.page.mouse.move(1, 1)
        shown = picture.convert("RGB")
        shown.thumbnail((EDGE, EDGE))

        def is_there() -> bool:
            zoom = self.zoom
            width, height = (min(240, int(side * zoom) // 2 * 2) for side in shown.size)
            seen = self._middle(width, height)
            left, top = (shown.width - width / zoom) / 2, (shown.height - height / zoom) / 2
            box = (left, top, shown.width - left, shown.height - top)
            expected = shown.resize(seen.size, Image.Resampling.BOX, box)
            return bool(np.abs(_blocks(seen) - _blocks(expected)).max() < _DIFFERENT)

        self._wait(is_there, "this picture in the editor")

    def _wait(self, is_so: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < end, f"{what}: not after a minute"
            self.page.wait_for_timeout(50)

    def _middle(self, width: int, height: int) -> Image.Image:
        x, y = self._centre()
        clip = {"x": x - width / 2, "y": y - height / 2, "width": width, "height": height}
        png = self.page.screenshot(clip=clip)  # type: ignore[arg-type]  # a dict of these keys
        return Image.open(BytesIO(png)).convert("RGB")

    def _centre(self) -> Point:
        box = self._canvas.bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def stroke(self, points: Sequence[Point]) -> None:
        """Paint from point to point, slowly enough for the page to follow."""
        x, y = self._centre()
        mouse, zoom = self.page.mouse, self.zoom
        mouse.move(x + points[0][0] * zoom, y + points[0][1] * zoom)
        mouse.down()
        for right, below in points[1:]:
            mouse.move(x + right * zoom, y + below * zoom, steps=2)
        mouse.up()


def distances(size: tuple[int, int], start: Point, end: Point) -> NDArray[np.float64]:
    """How far each pixel of a picture is from a stroke's middle line, in pixels as shown.

    Args:
        size: of the picture, (width, height).
        start, end: of the stroke.

    Returns:
        (height, width).
    """
    width, height = size
    scale = max(1.0, max(size) / EDGE)
    y, x = np.mgrid[:height, :width]
    right, below = ((x + 0.5 - width / 2) / scale, (y + 0.5 - height / 2) / scale)
    along = np.subtract(end, start)
    share = ((right - start[0]) * along[0] + (below - start[1]) * along[1]) / (along @ along)
    share = share.clip(0, 1)
    found: NDArray[np.float64] = np.hypot(
        right - start[0] - share * along[0], below - start[1] - share * along[1]
    )
    return found


def _blocks(picture: Image.Image) -> NDArray[np.float64]:
    """Means of blocks, (rows, columns, 3)."""
    size = [max(1, math.ceil(side / _BLOCK)) for side in picture.size]
    return np.asarray(picture.resize((size[0], size[1]), Image.Resampling.BOX), np.float64)
