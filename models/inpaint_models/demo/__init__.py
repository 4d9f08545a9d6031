"""The interactive page of `inpaint demo`: paint over a picture, see it filled, go on from there.

    pictures.py     uploads, strokes and what a browser is shown
    session.py      what one page has uploaded, painted and confirmed
    networks.py     the networks on offer, loaded when they are used
    desk.py         what each of the page's controls does, without the page
    page.py         the page, made of Gradio's components
    application.py  the page as a web application, with its limits
    server.py       the process: loopback, one private folder, nothing kept

`pip install 'inpaint_ops[demo]'`; `import inpaint_models` does not import this package.
"""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import MissingPackageError

_NEEDED = {
    "fastapi": "fastapi",
    "gradio": "gradio",
    "numpy": "numpy",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "uvicorn": "uvicorn",
}

_missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
if _missing:
    raise MissingPackageError(
        f"inpaint_models.demo needs {', '.join(_missing)}: pip install 'inpaint_ops[demo]'"
    )
