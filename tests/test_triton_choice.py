"""Which convolution a shape gets on the Triton backend, and what is remembered of measurements."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is for Linux only")

from inpaint_ops.backends.triton import choice, gemm

NHWC = torch.channels_last
CONFIGS = gemm.fitting(4096, 64, 64)
WHAT = ("forward", (2, 64, 32, 32), torch.float16)


class Call:
    """A call on a GPU that is not here; times are told, not taken."""

    def __init__(self, times: dict[gemm.Config | None, float]) -> None:
        self.times = times
        self.ran: list[gemm.Config | None] = []
        self.x: Any = types.SimpleNamespace(is_cuda=True, device=torch.device("cuda", 0))

    def run(self, config: gemm.Config | None) -> None:
        self.ran.append(config)

    def milliseconds(self, run: Any, x: Any) -> float:
        run()
        return self.times.get(self.ran[-1], 9.0)

    def choose(self, what: tuple[Any, ...] = WHAT) -> gemm.Config | None:
        return choice.choose(what, CONFIGS, self.run, self.x)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("INPAINT_OPS_CONV", raising=False)
    monkeypatch.setattr(choice, "machine", lambda device: "a GPU")
    monkeypatch.setattr(choice, "_known", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    choice._file.cache_clear()
    yield
    choice._file.cache_clear()


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    made = Call({None: 2.0, CONFIGS[1]: 1.0})
    monkeypatch.setattr(choice, "milliseconds", made.milliseconds)
    return made


def again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process would find things."""
    monkeypatch.setattr(choice, "_known", {})
    choice._file.cache_clear()


def test_the_fastest_is_taken_and_remembered(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call.choose() == CONFIGS[1]
    assert call.ran == [None, *CONFIGS]
    assert call.choose() == CONFIGS[1]
    again(monkeypatch)
    assert call.choose() == CONFIGS[1]
    assert len(call.ran) == 1 + len(CONFIGS)
    (key,) = json.loads(choice.path().read_text())
    assert key.startswith("a GPU: forward, (2, 64, 32, 32), torch.float16")


def test_the_library_may_win(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call.times = {None: 0.5}
    assert call.choose() is None
    again(monkeypatch)
    assert call.choose() is None
    assert len(call.ran) == 1 + len(CONFIGS)


def test_what_was_measured_holds_for_its_key_only(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call.choose()
    call.choose(("grad_input", *WHAT[1:]))
    assert len(call.ran) == 2 * (1 + len(CONFIGS))
    again(monkeypatch)
    monkeypatch.setattr(choice, "machine", lambda device: "another GPU, or another torch")
    call.choose()
    assert len(call.ran) == 3 * (1 + len(CONFIGS))
    assert len(json.loads(choice.path().read_text())) == 3


def test_nothing_measured_is_the_library(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cudnn, "benchmark", False)
        assert call.choose() is None
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        assert call.choose() is None
    assert call.ran == []
    assert call.choose() == CONFIGS[1]
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert call.choose() == CONFIGS[1]


def test_overrides(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPAINT_OPS_CONV", "library")
    assert call.choose() is None
    assert call.ran == []
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setenv("INPAINT_OPS_CONV", "gemm")
    assert call.choose() == CONFIGS[0]
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    assert call.choose() == CONFIGS[1]
    monkeypatch.setenv("INPAINT_OPS_CONV", "fast")
    with pytest.raises(ValueError, match=r"INPAINT_OPS_CONV: expected one of .* got 'fast'"):
        call.choose()


def test_the_product_that_was_asked_for_is_the_fastest_of_them(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call.times = {None: 0.5, CONFIGS[1]: 1.0}
    monkeypatch.setenv("INPAINT_OPS_CONV", "gemm")
    assert call.choose() == CONFIGS[1]
    monkeypatch.setenv("INPAINT_OPS_CONV", "auto")
    assert call.choose() is None


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
def test_a_damaged_file_is_replaced(call: Call, text: str) -> None:
    choice.path().parent.mkdir(parents=True)
    choice.path().write_text(text)
    if text == "{":
        with pytest.warns(UserWarning, match="cannot be read"):
            assert call.choose() == CONFIGS[1]
    else:
        assert call.choose() == CONFIGS[1]
    assert len(json.loads(choice.path().read_text())) == (2 if "a" in text else 1)
    assert [file.name for file in choice.path().parent.iterdir()] == ["convolutions.json"]


def test_a_folder_that_cannot_be_written_is_named(call: Call, tmp_path: Path) -> None:
    (tmp_path / "inpaint_ops").write_text("not a folder")
    with pytest.warns(UserWarning, match=r"cannot be (read|written)") as caught:
        assert call.choose() == CONFIGS[1]
    assert "measurements are lost" in str(caught[-1].message)
    assert call.choose() == CONFIGS[1]


def test_tiles_are_no_wider_than_the_product() -> None:
    for config in gemm.fitting(40, 3, 20):
        assert (config.m, config.n, config.k) == (64, 16, 32)
    assert len(gemm.fitting(40, 3, 20)) < len(gemm.CONFIGS)
    assert gemm.fitting(10**6, 512, 512) == list(gemm.CONFIGS)


@pytest.mark.parametrize(
    ("x", "weight", "groups", "expected"),
    [
        (torch.ones(2, 4, 5, 5), torch.ones(6, 4, 3, 3), 1, True),
        (torch.ones(2, 4, 5, 5), torch.ones(6, 2, 3, 3), 2, False),
        (torch.ones(2, 4, 5), torch.ones(6, 4, 3), 1, False),
        (torch.ones(0, 4, 5, 5), torch.ones(6, 4, 3, 3), 1, False),
        # The library's result would be channels-last, and its order is what is promised.
        (torch.ones(2, 4, 5, 5), torch.ones(6, 4, 3, 3).to(memory_format=NHWC), 1, False),
        (torch.ones(2, 4, 5, 5).to(memory_format=NHWC), torch.ones(6, 4, 3, 3), 1, True),
        (torch.ones(2, 1, 5, 5), torch.ones(6, 1, 3, 3), 1, False),
        (torch.ones(1, 1, 1, 1).expand(2**21, 1, 32, 33), torch.ones(6, 1, 3, 3), 1, False),
    ],
)  # fmt: skip
def test_where_the_product_applies(
    x: torch.Tensor, weight: torch.Tensor, groups: int, expected: bool
) -> None:
    assert gemm.applies(x, weight, groups) == expected
