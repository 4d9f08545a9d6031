"""The page: Gradio's components, and which of the desk's answers goes where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from PIL import Image

from ..errors import InpaintError
from .desk import PAINT, Desk

BRUSH = 5
"""Width of the brush at first, in pixels of what is shown."""

SAVED = "saved"
"""Below this path, the page of a session fetches what it saves."""

_RED = ("rgb(255, 0, 0)", 0.5)
_NO_RESULT = (None, PAINT)
_Afresh = tuple[dict[str, object], None, str]
"""For editor, result and status."""

_DOWNLOAD = f"""(session) => {{
    if (!session) return;
    const link = document.createElement("a");
    link.href = new URL("{SAVED}/" + session, document.baseURI).href;
    link.download = "inpainted.png";
    link.click();
}}"""
_ABOUT = """# inpaint demo
Upload a picture and paint over what is to be filled: the result appears when a stroke ends. Confirm
makes it the new input. Revert takes back the strokes, or, without any, what was confirmed last.
"""


def make_page(desk: Desk) -> gr.Blocks:
    """The page of a desk."""
    names = desk.networks.names
    page = gr.Blocks(title="inpaint demo", analytics_enabled=False, delete_cache=(60, 600))
    with page:
        gr.Markdown(_ABOUT)
        with gr.Row():
            network = gr.Dropdown(
                names, value=names[0], label="Model and checkpoint", elem_id="model"
            )
            brush = gr.Slider(1, 100, BRUSH, step=1, label="Brush size", elem_id="brush")
        with gr.Row(equal_height=True):
            editor = gr.ImageEditor(
                type="pil",
                image_mode="RGBA",
                format="png",
                sources=(),
                transforms=(),
                layers=False,
                brush=_brush(BRUSH),
                buttons=[],
                height=520,
                label="Input",
                placeholder="Upload a picture",
                elem_id="editor",
            )
            result = gr.Image(
                format="png",
                interactive=False,
                buttons=[],
                height=520,
                label="Result",
                elem_id="result",
            )
        status = gr.Markdown("Upload a picture.", elem_id="status")
        with gr.Row():
            upload = gr.UploadButton("Upload", file_types=["image"], elem_id="upload")
            confirm = gr.Button("Confirm", variant="primary", elem_id="confirm")
            revert = gr.Button("Revert", elem_id="revert")
            save = gr.Button("Save", elem_id="save")
        session = gr.Textbox(visible="hidden")

        # All in one queue: what is asked for first is done first, and one network runs at a time.
        # Progress is never shown on the editor: whenever Gradio tells it of some, it sends its
        # pictures to the server again, and what was told first may arrive last.
        busy: dict[str, Any] = {
            "concurrency_id": "pictures",
            "concurrency_limit": 1,
            "show_progress_on": result,
        }
        afresh: dict[str, Any] = {"outputs": [editor, result, status], **busy}
        filled: dict[str, Any] = {"outputs": [result, status], **busy}

        upload.upload(_told(_upload, desk), upload, **afresh)
        # While a result is being computed, further strokes wait, and the last one counts.
        editor.change(
            _told(_paint, desk, _NO_RESULT),
            [editor, network],
            trigger_mode="always_last",
            **filled,
        )
        # The editor's own button for clearing it removes the picture too.
        editor.clear(_told(_clear, desk), None, **afresh)
        network.change(_told(_fill, desk, _NO_RESULT), network, **filled)
        brush.release(_resize, brush, editor, show_progress_on=brush, show_progress="hidden")
        confirm.click(_told(_confirm, desk), None, **afresh)
        revert.click(_told(_revert, desk), None, **afresh)
        save.click(_told(_save, desk, otherwise=""), None, session, **busy).then(
            None, session, None, js=_DOWNLOAD
        )

        # Gradio looks for the request in a function's own parameters.
        def end(request: gr.Request) -> None:
            desk.sessions.end(str(request.session_hash))

        page.unload(end)
    return page


def _told(answer: Callable[..., Any], desk: Desk, otherwise: object = None) -> Callable[..., Any]:
    """Show what a user can mend as a message; the page stays as it is, or gets `otherwise`."""

    def call(request: gr.Request, *values: Any) -> Any:
        try:
            return answer(desk, str(request.session_hash), *values)
        except InpaintError as error:
            gr.Warning(str(error))
            return gr.skip() if otherwise is None else otherwise

    return call


def _afresh(answer: tuple[Image.Image, str]) -> _Afresh:
    """An input without strokes, no result."""
    picture, status = answer
    return {"background": picture, "layers": [], "composite": None}, None, status


def _brush(size: int) -> gr.Brush:
    # Gradio's size is a radius; it takes halves too.
    radius: Any = size / 2
    return gr.Brush(default_size=radius, colors=[_RED], default_color=_RED, color_mode="fixed")


def _upload(desk: Desk, name: str, path: str) -> _Afresh:
    return _afresh(desk.upload(name, path))


def _paint(
    desk: Desk, name: str, editor: dict[str, Any], network: str
) -> tuple[Image.Image | None, str]:
    return desk.paint(name, editor["layers"], network)


def _fill(desk: Desk, name: str, network: str) -> tuple[Image.Image | None, str]:
    return desk.fill(name, network)


def _clear(desk: Desk, name: str) -> _Afresh:
    return _afresh(desk.clear(name))


def _confirm(desk: Desk, name: str) -> _Afresh:
    return _afresh(desk.confirm(name))


def _revert(desk: Desk, name: str) -> _Afresh:
    return _afresh(desk.revert(name))


def _save(desk: Desk, name: str) -> str:
    desk.check_saved(name)
    return name


def _resize(size: int) -> gr.ImageEditor:
    return gr.ImageEditor(brush=_brush(size))
