"""The process behind the page."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import tempfile
import webbrowser
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ..errors import InpaintError, InterruptedRunError, UsageError
from .desk import Desk, Limits
from .networks import Networks


def serve(
    networks: Networks, limits: Limits, host: str, port: int, open_browser: bool = False
) -> NoReturn:
    """Show the page until a signal ends it. Prints the address, and a warning beyond loopback.

    Nothing stays: files of uploads and results are in a private temporary folder, which is removed.

    Args:
        networks: what is on offer.
        limits: of uploads.
        host: an address or name to listen on. On loopback, only by its names the page is shown.
        port: 0 for any that is free.
        open_browser: open the page in the default browser.

    Raises:
        UsageError: `host` is no address of this machine, or the port is taken.
        KeyboardInterrupt: Ctrl-C.
        InterruptedRunError: SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        with (
            _listen(host, port) as listener,
            tempfile.TemporaryDirectory(prefix="inpaint-demo-") as folder,
        ):
            # Read by Gradio when it is imported, and later.
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
            os.environ["GRADIO_TEMP_DIR"] = folder
            import uvicorn

            from .application import LOOPBACK, make_application

            address = _address(host, listener.getsockname()[1])
            hosts = {*LOOPBACK, _in_address(host).lower()} if _is_loopback(host) else None
            desk = Desk(networks, limits, Path(folder))
            application, end_connections = make_application(desk, hosts)

            class Server(uvicorn.Server):
                async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                    # Pages keep a connection open for as long as they are shown.
                    end_connections()
                    await super().shutdown(sockets)

            server = Server(
                uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=5)
            )
            if not _is_loopback(host):
                print(
                    f"WARNING: listening on {host}: everybody who can reach this machine can use "
                    "this page, without a password and without encryption",
                    flush=True,
                )
            print(f"inpaint demo: {address} (Ctrl-C ends it)", flush=True)
            if open_browser:
                webbrowser.open(address)
            # After a signal, this raises it again.
            server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
    raise InpaintError("the server has stopped, see above")


def _terminated(number: int, frame: FrameType | None) -> None:
    raise InterruptedRunError(number, "stopped by SIGTERM")


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = found[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UsageError(f"cannot listen on {_address(host, port)}: {error.strerror}") from error


def _address(host: str, port: int) -> str:
    wildcards = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    return f"http://{wildcards.get(host) or _in_address(host)}:{port}/"


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
