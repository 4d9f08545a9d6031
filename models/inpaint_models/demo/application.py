"""The page as a web application."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

import gradio as gr
from fastapi import FastAPI, Response
from gradio.routes import App
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from ..errors import UsageError
from .desk import Desk
from .page import SAVED, make_page

# A browser asks nobody else, whatever is in the page. Gradio's editor compiles shaders by eval.
_POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"

_EDITOR = 16 * 2**20
"""Bytes: more than the editor's copies of a picture and its strokes may take."""

LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))
"""What a browser on the same machine calls it."""

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_Receive = Callable[[], Awaitable[_Message]]
_Application = Callable[[_Message, _Receive, _Send], Awaitable[None]]


def make_application(
    desk: Desk, hosts: Collection[str] | None = LOOPBACK
) -> tuple[_Application, Callable[[], None]]:
    """The page of a desk, uploads limited, and what its Save fetches; for an ASGI server.

    What pages of other hosts ask for is refused.

    Args:
        desk: what the page shows.
        hosts: the names, in lower case and without port, by which it may be asked; None for any.

    Returns:
        The application, and what ends the connections of pages that are open, to be called in the
        server's event loop.
    """
    application = FastAPI(openapi_url=None, max_body_size=desk.limits.file_bytes + _EDITOR)

    @application.get(f"/{SAVED}/{{session}}")
    def saved(session: str) -> Response:
        try:
            content = desk.saved(session)
        except UsageError as error:
            return Response(str(error), 404)
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": 'attachment; filename="inpainted.png"',
        }
        return Response(content, media_type="image/png", headers=headers)

    page = make_page(desk)
    # Only then does Gradio refuse paths outside its folder of uploads; mounting does not set it.
    page.has_launched = True
    gr.mount_gradio_app(
        application,
        page,
        path="/",
        footer_links=[],
        max_file_size=desk.limits.file_bytes,
        # Else the browser stores what has been uploaded and computed.
        run_history=False,
        ssr_mode=False,
        # By default, fonts come from the network.
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
    )
    mounted = application.routes[-1]
    assert isinstance(mounted, Mount)
    assert isinstance(mounted.app, App)
    return _with_policy(_for_own_page(application, hosts)), mounted.app.stop_event.set


def _for_own_page(application: _Application, hosts: Collection[str] | None) -> _Application:
    """Refuse what pages of other hosts ask for, by their own name (DNS rebinding) or by ours."""

    async def answer(scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            host = headers.get("host", "").lower()
            name = re.sub(r":\d+$", "", host)
            origin = headers.get("origin")
            refusal = None
            if hosts is not None and name not in hosts:
                refusal = f"this server is asked as {', '.join(sorted(hosts))}, got {name!r}"
            elif origin is not None and origin.lower().split("://")[-1] != host:
                refusal = f"only the pages of {host} may ask, got one of {origin!r}"
            if refusal is not None:
                await PlainTextResponse(refusal, 403)(scope, receive, send)
                return
        await application(scope, receive, send)

    return answer


def _with_policy(application: _Application) -> _Application:
    async def answer(scope: _Message, receive: _Receive, send: _Send) -> None:
        async def send_with_policy(message: _Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _POLICY)
                message = {**message, "headers": [*message.get("headers", ()), policy]}
            await send(message)

        # A page that is closed while it sends something has nobody to be answered.
        with contextlib.suppress(ClientDisconnect):
            await application(scope, receive, send_with_policy)

    return answer
