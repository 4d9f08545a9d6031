"""Other people's packages: measured where they are installed, and no failure of ours."""

from __future__ import annotations

import dataclasses
import importlib.metadata

import pytest
import torch
from rich.console import Console

from benchmarks import report, runner, session
from benchmarks.baselines import peers
from benchmarks.cases import CONTIGUOUS, Candidate, Case, Truth, all_cases
from benchmarks.devices import HOST
from benchmarks.plan import QUICK


def _providers() -> dict[str, list[str]]:
    return {case.id: [c.provider for c in case.candidates] for case in all_cases(QUICK)}


def test_an_absent_peer_is_not_listed_and_the_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert not any(peers.TORCH_PCONV in names for names in _providers().values())
    (line,) = session.missing_peers()
    assert line.startswith("torch-pconv is not installed")


def test_torch_pconv_runs_where_one_plane_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1.1")
    assert session.missing_peers() == []
    found = {name for name, listed in _providers().items() if peers.TORCH_PCONV in listed}
    assert "layer/enc3/forward" in found
    assert "layer/dec4/forward" not in found
    assert {name for name in _providers() if name.startswith("sweep/conv")} <= found


@pytest.mark.parametrize("wanted", ["layer/enc6/forward+backward", "layer/enc1/forward"])
def test_torch_pconv_matches_the_definition_where_it_is_installed(wanted: str) -> None:
    case = next(c for c in all_cases(QUICK) if c.id == wanted)
    peer = [c for c in case.candidates if c.peer]
    if peers.version(peers.TORCH_PCONV) is None:  # the extra is optional
        assert not peer
        return
    assert [c.provider for c in peer] == [peers.TORCH_PCONV]
    (row,) = runner.run_case(dataclasses.replace(case, candidates=peer, seconds=0.0), HOST, 1, 1)
    assert row.error is None
    assert row.match is not None
    assert row.match["ok"], row.match


def test_a_peer_that_deviates_is_shown_and_fails_nothing() -> None:
    case = Case(
        group="layer",
        name="enc1",
        detail="fake",
        mode="forward",
        shape=(3,),
        candidates=[
            Candidate("other", CONTIGUOUS, lambda: lambda: {"y": torch.ones(3)}, peer=True)
        ],
        truth=lambda: {"y": Truth(torch.zeros(3, dtype=torch.float64), 1e-6)},
        seconds=0.0,
    )
    (row,) = runner.run_case(case, HOST, 1, 1)
    assert row.peer
    assert row.wrong
    assert not row.failed
    console = Console(width=report.WIDTH, record=True)
    console.print(report.problem(row))
    assert "y is off by 1, allowed 1e-06, a peer's own deviation" in console.export_text()
    ours = dataclasses.replace(row, peer=False, provider="fused")
    assert ours.failed
