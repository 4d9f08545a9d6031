"""The demo without a browser: pictures, sessions, networks, what the controls do, the server."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_pages import serve
from demo_weights import write_weights
from fastapi.testclient import TestClient
from inpaint_cli import main
from inpaint_models.demo import pictures, server
from inpaint_models.demo.application import make_application
from inpaint_models.demo.desk import PAINT, Desk, Limits
from inpaint_models.demo.networks import Networks
from inpaint_models.demo.pictures import EDGE, painted, read_upload, shown, to_png
from inpaint_models.demo.session import Session, Sessions
from inpaint_models.errors import UsageError
from inpaint_models.pictures import read_picture
from inpaint_models.training.checkpoints import write_checkpoint
from PIL import Image

OURS = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_weights(tmp_path_factory.mktemp("weights") / "net.safetensors", seed=0))


def _noise(width: int, height: int, channels: int = 3) -> Image.Image:
    dice = np.random.default_rng(0)
    values = dice.integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(values.squeeze())


def _layer(size: tuple[int, int], left: int, top: int, right: int, bottom: int) -> Image.Image:
    layer = Image.new("RGBA", size)
    layer.paste((255, 0, 0, 127), (left, top, right, bottom))
    return layer


@pytest.fixture
def desk(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """With one network, and none of the box."""
    (tmp_path / "uploads").mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr("inpaint_models.demo.networks.list_pretrained", list)
    return Desk(Networks([weights]), Limits(file_bytes=1000, pixels=100_000), tmp_path / "uploads")


def _client(desk: Desk) -> TestClient:
    return TestClient(make_application(desk)[0], base_url=OURS)


def _upload(desk: Desk, picture: Image.Image, folder: Path) -> None:
    file = folder / "uploads" / "upload.png"
    picture.save(file)
    assert (
        desk.upload("page", file)[1]
        == f"{picture.width} x {picture.height} pixels, as uploaded. {PAINT}"
    )
    assert not file.exists()


@pytest.mark.parametrize(
    ("given", "kept"),
    [("L", "L"), ("LA", "LA"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("1", "RGB"), ("P", "RGB")],
)
def test_an_upload_keeps_its_values(given: str, kept: str, tmp_path: Path) -> None:
    picture = _noise(9, 7).convert(given)
    picture.save(tmp_path / "upload.png")
    read = read_upload(tmp_path / "upload.png", 63)
    assert read.mode == kept
    assert read.tobytes() == picture.convert(kept).tobytes()


def test_an_upload_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    picture = _noise(9, 7)
    picture.rotate(90, expand=True).save(tmp_path / "upload.png", exif=exif)
    assert read_upload(tmp_path / "upload.png", 63).tobytes() == picture.tobytes()


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    file = tmp_path / "upload.png"
    _noise(9, 7).save(file)
    with pytest.raises(UsageError, match=r"9 x 7 pixels, more than 6\.2e-05 million"):
        read_upload(file, 62)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UsageError, match="no picture that can be read"):
        read_upload(file, 63)
    Image.fromarray(np.ones((4, 4), np.uint16)).save(file)
    with pytest.raises(UsageError, match=r"more than 8 bits per channel \(mode I;16\)"):
        read_upload(file, 63)


def test_an_upload_that_would_lose_values_or_pictures_is_refused(tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    # A file of Pillow's own would have 8 bits.
    rows = b"".join(b"\0" + bytes(range(2 * 3 * 2)) for _ in range(2))
    with wide.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
        for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            crc = zlib.crc32(name + content)
            file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc))
    with pytest.raises(UsageError, match="cannot be used: 16 bits per channel in colour"):
        read_upload(wide, 63)
    for suffix in ("gif", "webp", "png", "tiff"):
        several = tmp_path / f"several.{suffix}"
        first, second = _noise(9, 7), Image.new("RGB", (9, 7))
        first.save(several, save_all=True, append_images=[second])
        with pytest.raises(UsageError, match=r"cannot be used: 2 pictures in one file \(animation"):
            read_upload(several, 63)


def test_16_bits_for_all_channels_together_are_not_too_many(tmp_path: Path) -> None:
    values = np.array([[0xF800, 0x07E0], [0x001F, 0xFFFF]], "<u2")
    sizes = struct.pack("<IiiHHIIiiII", 40, 2, -2, 1, 16, 3, 8, 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    start = 14 + len(sizes + masks)
    file = tmp_path / "narrow.bmp"
    file.write_bytes(
        b"BM" + struct.pack("<IHHI", start + 8, 0, 0, start) + sizes + masks + values.tobytes()
    )
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    for read in (read_upload(file, 4), read_picture(file).image):
        assert np.asarray(read).reshape(4, 3).tolist() == colours


def test_strokes_on_a_small_copy_cover_the_pixels_behind_them() -> None:
    picture = _noise(3 * EDGE, 6)
    assert shown(picture).size == (EDGE, 2)
    assert shown(_noise(5, 6, 2)).mode == "RGBA"
    hole = painted([_layer((EDGE, 2), 4, 0, 6, 1), _layer((EDGE, 2), 0, 1, 1, 2)], picture.size)
    expected = np.zeros((6, 3 * EDGE), np.bool_)
    expected[:3, 12:18] = True
    expected[3:, :3] = True
    assert np.array_equal(hole, expected)
    assert not painted([], (4, 3)).any()


def test_a_saved_picture_keeps_its_colour_profile(tmp_path: Path) -> None:
    picture = _noise(4, 3)
    picture.info["icc_profile"] = b"a profile"
    (tmp_path / "saved.png").write_bytes(to_png(picture))
    with Image.open(tmp_path / "saved.png") as saved:
        assert saved.info["icc_profile"] == b"a profile"
        assert saved.tobytes() == picture.tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_confirmed_results_are_reverted_one_by_one(mode: str) -> None:
    def blacken(
        picture: Image.Image, mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
    ) -> Image.Image:
        values = np.array(picture)
        values[~mask] = 0
        return Image.fromarray(values)

    upload = _noise(8, 6).convert(mode)
    session = Session(upload)
    seen = [upload.tobytes()]
    for low in (1, 3):
        hole = np.zeros((6, 8), np.bool_)
        hole[low : low + 2, low] = hole[low, low : low + 3] = True
        session.paint(hole)
        result = session.fill(blacken)
        assert session.outcome is result
        session.confirm()
        assert session.picture is result
        assert not session.hole.any()
        seen.append(result.tobytes())
    assert len(set(seen)) == 3
    session.paint(hole)
    for steps in (2, 1, 0):
        session.revert()
        assert session.steps == steps
        assert session.outcome.tobytes() == seen[steps]
    with pytest.raises(UsageError, match="as it was uploaded"):
        session.revert()
    with pytest.raises(UsageError, match="nothing to confirm"):
        session.confirm()


def test_nothing_or_everything_painted_is_a_message_and_no_result(
    desk: Desk, tmp_path: Path
) -> None:
    _upload(desk, _noise(40, 30), tmp_path)
    (network,) = desk.networks.names
    some, all_of_it = _layer((40, 30), 3, 3, 20, 9), _layer((40, 30), 0, 0, 40, 30)
    assert desk.paint("page", [some], network)[0] is not None
    with pytest.raises(UsageError, match="everything is painted over"):
        desk.paint("page", [all_of_it], network)
    with pytest.raises(UsageError, match="nothing to confirm"):
        desk.confirm("page")
    with pytest.raises(UsageError, match="nothing to save"):
        desk.check_saved("page")
    assert desk.paint("page", [], network) == (None, desk.input("page")[1])
    with pytest.raises(UsageError, match="nothing is painted"):
        desk.sessions.get("page").fill(lambda picture, mask: picture)


def test_what_is_saved_is_the_picture_but_for_the_hole(desk: Desk, tmp_path: Path) -> None:
    upload = _noise(100, 60, 4)
    _upload(desk, upload, tmp_path)
    (network,) = desk.networks.names
    result, status = desk.paint("page", [_layer((100, 60), 10, 10, 40, 30)], network)
    assert result is not None
    assert status.startswith(f"10 % painted, filled by {network} in ")
    (tmp_path / "saved.png").write_bytes(desk.saved("page"))
    with Image.open(tmp_path / "saved.png") as saved:
        changed = (np.asarray(saved) != np.asarray(upload)).any(-1)
        assert np.asarray(saved)[10:30, 10:40, 3].min() == 255
    assert changed[10:30, 10:40].mean() > 0.9
    changed[10:30, 10:40] = False
    assert not changed.any()
    assert desk.confirm("page")[1].startswith("100 x 60 pixels, 1 confirmed.")
    desk.check_saved("page")
    assert desk.clear("page")[1].startswith("100 x 60 pixels, 1 confirmed.")
    assert desk.revert("page")[1].startswith("100 x 60 pixels, as uploaded.")


def test_sessions_make_room_for_each_other() -> None:
    sessions = Sessions(most=2)
    for name in "ab":
        sessions.begin(name, _noise(2, 2))
    sessions.get("a")
    sessions.begin("c", _noise(2, 2))
    assert len(sessions) == 2
    sessions.end("c")
    sessions.end("c")
    for name in "bc":
        with pytest.raises(UsageError, match="upload one"):
            sessions.get(name)
    assert sessions.get("a").steps == 0


def test_networks_are_found_named_and_kept(weights: str, tmp_path: Path) -> None:
    net = Networks([weights]).load(weights)
    metadata = {"model": "pconv_unet", "options": '{"width": 4, "levels": 4}'}
    for run in ("a", "b/c"):
        for step in (1, 2, 3):
            folder = tmp_path / run / "checkpoints"
            write_checkpoint(folder, step, {"generator": net}, {"generator": metadata}, {}, 3)
    (tmp_path / "a" / "checkpoints" / "step-00000009").mkdir()
    write_weights(tmp_path / "d.safetensors", seed=1)
    steps = [f"step-0000000{i}" for i in (3, 2, 1)]
    networks = Networks([weights], tmp_path)
    assert networks.names[: 1 + 7] == [
        weights, *(f"a, {s}" for s in steps), *(f"b/c, {s}" for s in steps), "d.safetensors",
    ]  # fmt: skip
    loaded = [networks.load(name) for name in networks.names[:4]]
    assert networks.load(networks.names[3]) is loaded[3]
    again = networks.load(networks.names[0])
    assert again is not loaded[0]
    assert not again.training
    for a, b in zip(again.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    run = str(tmp_path / "a")
    assert Networks([run]).names[:3] == [f"{run}, {s}" for s in steps]
    with pytest.raises(UsageError, match="unknown network 'e'"):
        networks.load("e")


def test_a_server_starts_with_something_to_fill_by_or_says_what_is_missing(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("inpaint_models.demo.networks.list_pretrained", list)
    broken = tmp_path / "broken.safetensors"
    broken.touch()
    folder = str(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, message in (
            ((), "no weights come with this version: give --model or --runs"),
            (("--model", "compct"), "unknown pretrained network 'compct'"),
            (("--model", folder), "no checkpoint here"),
            (("--model", str(broken)), "cannot be read"),
            (("--runs", str(broken)), "is no folder"),
            (("--runs", str(tmp_path / "runs")), "is no folder"),
            (
                ("--model", weights, "--host", "256.0.0.1"),
                "cannot listen on http://256.0.0.1:7860/",
            ),
            (("--model", weights, "--port", port), f"cannot listen on http://127.0.0.1:{port}/"),
        ):
            assert main(["demo", *arguments]) == 2, arguments
            printed = capsys.readouterr().err
            assert message in printed
            assert printed.count("\n") == 1
    for option, value in (("--port", "70000"), ("--max-size", "-1"), ("--max-megapixels", "x")):
        with pytest.raises(SystemExit):
            main(["demo", option, value])
        assert f"got {value}" in capsys.readouterr().err


def test_only_loopback_is_quiet(weights: str, tmp_path: Path) -> None:
    with serve(tmp_path, "--model", weights, "--host", "0.0.0.0") as running:
        assert running.address.startswith("http://127.0.0.1:")
        assert "WARNING: listening on 0.0.0.0: everybody who can reach" in running.printed
        code, said = running.stop(signal.SIGTERM)
        # Libraries may warn before.
        assert (code, said.splitlines()[-1]) == (143, "inpaint: stopped by SIGTERM")
    assert list((tmp_path / "tmp").iterdir()) == []
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert server._is_loopback(host)
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.org"):
        assert not server._is_loopback(host)


def test_every_answer_confines_the_browser(desk: Desk, tmp_path: Path) -> None:
    client = _client(desk)
    for path in ("/", "/theme.css", "/saved/page"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy == "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
    assert client.get("/saved/page").status_code == 404
    _upload(desk, _noise(9, 7), tmp_path)
    saved = client.get("/saved/page")
    assert saved.content == desk.saved("page")
    assert saved.headers["cache-control"] == "no-store"
    assert "googleapis" not in client.get("/").text + client.get("/theme.css").text


def _ask_for(client: TestClient, path: str) -> int:
    """Begin with the file at a path as a client of the server may; what Save then answers."""
    given = {"path": path, "meta": {"_type": "gradio.FileData"}}
    asked = {"data": [given], "fn_index": 0, "session_hash": "page"}
    assert client.post("/gradio_api/queue/join", json=asked).status_code == 200
    told = client.get("/gradio_api/queue/data", params={"session_hash": "page"})
    assert "process_completed" in told.text
    return client.get("/saved/page").status_code


def test_a_client_of_the_server_reads_no_file_but_what_it_uploads(
    desk: Desk, tmp_path: Path
) -> None:
    local = tmp_path / "local.png"
    _noise(9, 7).save(local)
    (tmp_path / "uploads" / "link.png").symlink_to(local)
    with _client(desk) as client:
        for path in (local, tmp_path / "uploads" / ".." / "local.png"):
            assert _ask_for(client, str(path)) == 404
        # Not even a copy.
        assert [f.name for f in (tmp_path / "uploads").rglob("*")] == ["link.png"]
        assert _ask_for(client, str(tmp_path / "uploads" / "link.png")) == 404
        sent = client.post("/gradio_api/upload", files={"files": ("a.png", local.read_bytes())})
        assert _ask_for(client, sent.json()[0]) == 200
    assert local.exists()


def test_the_desk_takes_no_file_from_elsewhere(desk: Desk, tmp_path: Path) -> None:
    local, link = tmp_path / "local.png", tmp_path / "uploads" / "link.png"
    _noise(9, 7).save(local)
    link.symlink_to(local)
    for path in (local, link, tmp_path / "uploads" / ".." / "local.png"):
        with pytest.raises(UsageError, match="this file has not been uploaded"):
            desk.upload("page", path)
    assert len(desk.sessions) == 0
    assert local.exists()


def test_pages_of_other_hosts_get_no_answer(desk: Desk) -> None:
    client = _client(desk)
    for host in ("127.0.0.1:7860", "LOCALHOST:7860", "localhost", "[::1]:7860", "[::1]"):
        for headers in ({}, {"origin": f"http://{host}"}):
            assert client.get("/", headers={"host": host, **headers}).status_code == 200
    for host in ("evil.example:7860", "evil.example", "127.0.0.1.evil.example", "", "[::2]:7860"):
        refused = client.get("/", headers={"host": host})
        assert refused.status_code == 403
        assert refused.text.startswith("this server is asked as 127.0.0.1, [::1], localhost, got")
    others = ("http://evil.example", "http://127.0.0.1:7861", "http://localhost:7860", "null", "[")
    for origin in others:
        for method in ("GET", "POST", "OPTIONS"):
            headers = {"origin": origin, "access-control-request-method": "POST"}
            refused = client.request(method, "/gradio_api/upload", headers=headers)
            assert refused.status_code == 403
            assert refused.text.startswith("only the pages of 127.0.0.1:7860 may ask")
            assert "access-control-allow-origin" not in refused.headers


def test_beyond_loopback_any_name_will_do_but_no_other_page(desk: Desk) -> None:
    client = TestClient(make_application(desk, hosts=None)[0], base_url="http://somewhere:80")
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"origin": "http://somewhere"}).status_code == 200
    assert client.get("/", headers={"origin": "http://evil.example"}).status_code == 403


def test_a_page_closed_during_an_upload_is_no_error(desk: Desk) -> None:
    application, _ = make_application(desk)
    headers = {"host": "127.0.0.1", "content-type": "multipart/form-data; boundary=x"}
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/gradio_api/upload", "raw_path": b"/gradio_api/upload", "query_string": b"",
        "root_path": "", "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "app": None,
    }  # fmt: skip
    asked = []

    async def receive() -> dict[str, str]:
        asked.append(1)
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        pass

    async def answer() -> None:
        await application(scope, receive, send)

    asyncio.run(answer())
    assert asked


def test_formats_that_start_other_programs_are_not_tried() -> None:
    assert "EPS" not in pictures._FORMATS
