"""Draws the demo's picture of the documents, with a network of one's choice:

python tests/demo_picture.py runs/pconv_unet docs/pictures/demo.webp
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path

from demo_pages import find_chromium, open_page, serve
from PIL import Image

PHOTOGRAPH = Path(__file__).parent.parent / "benchmarks" / "samples" / "aitzgorri.jpg"
STROKES = (
    ((-150.0, -110.0), (-60.0, -130.0), (40.0, -100.0)),
    ((190.0, 30.0), (190.0, 90.0)),
    ((-140.0, 190.0), (-40.0, 170.0), (60.0, 195.0)),
)


def draw(model: str, output: Path) -> None:
    """Show a photograph with a few strokes and the result beside it, as a picture of the page."""
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit("no chromium on PATH")
    with tempfile.TemporaryDirectory() as folder:
        server_folder, profile = Path(folder, "server"), Path(folder, "profile")
        # On the page, the network is called by its own name alone.
        name = Path(model).resolve().name
        (server_folder / "home").mkdir(parents=True)
        (server_folder / "home" / name).symlink_to(Path(model).resolve())
        with (
            serve(server_folder, "--model", name) as server,
            open_page(server.address, chromium, profile) as hand,
            Image.open(PHOTOGRAPH) as photograph,
        ):
            hand.choose_file(PHOTOGRAPH)
            hand.wait_for_input(photograph)
            hand.choose_brush(14)
            for stroke in STROKES:
                before = hand.status
                hand.stroke(stroke)
                hand.wait_for_another_status(before)
            hand.page.mouse.move(1, 1)
            png = hand.page.screenshot()
    with Image.open(BytesIO(png)) as shown:
        shown.convert("RGB").save(output, quality=85)


if __name__ == "__main__":
    draw(sys.argv[1], Path(sys.argv[2]))
