"""The GPU's plan, run whole on the CPU by a stand-in for the device, at tiny sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import devices, gpu_docs, gpu_figures, report, results, session
from benchmarks.__main__ import main
from benchmarks.cases import BOTH, CHANNELS_LAST, STEP, Call, all_cases
from benchmarks.cases.variants import GRAPH
from benchmarks.devices import HOST, Device, Sample
from benchmarks.figures import Rows
from benchmarks.plan import CUDA
from benchmarks.results import Result


class StandIn(Device):
    """Says what a GPU would say. Replays by calling again."""

    captured = 0

    def sample(self, call: Call) -> Sample:  # type: ignore[override]
        return Sample(HOST.sample(call).milliseconds)

    def allocated(self) -> int:
        return 1000

    def peak(self, call: Call) -> int:
        call()
        return 5000

    def capture(self, call: Call) -> Call:
        self.captured += 1
        call()
        return call

    def copy_gigabytes_per_second(self) -> float:
        return 1.0


TINY = dataclasses.replace(
    CUDA, device="cpu", backends=("cpu", "reference"), batch=2, size=32, big_norms=("RN_B",),
    layers=("enc1", "dec1"), heavy_layers=(), compiled_layers=(), norm_levels=("dec2",),
    networks=("cgan_pc_rn",), compiled_networks=(), volumes=0,
    layer_seconds=0.0, norm_seconds=0.0, network_seconds=0.0, min_rounds=1, max_rounds=1,
)  # fmt: skip


def _run(tmp_path: Path, only: str | None = None, **changes: object) -> Result:
    console = Console(width=report.WIDTH, file=(tmp_path / "out").open("w"))
    plan = dataclasses.replace(TINY, **changes)  # type: ignore[arg-type]
    return session.run(plan, only, console, StandIn())


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """As a GPU would have stored it; of the networks, which take longest, one step of training."""
    folder = tmp_path_factory.mktemp("gpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny calls: threads would only wait for each other
    found = _run(folder, networks=())
    # At 128 pixels no strided layer sees a single one, which oneDNN gets wrong in half precision.
    step = _run(folder, STEP, dtypes=("bfloat16",), backends=("cpu",), size=128)
    torch.set_num_threads(threads)
    found.rows += step.rows
    found.machine["gpu"] = "Some GPU"
    found.arguments["device"] = "cuda"
    for row in found.rows:
        row.provider = row.provider.replace("fused-reference", "fused-triton")
        row.provider = row.provider.replace("fused-cpu", "fused-cuda")
    found.figures = gpu_figures.compute(found.rows, CUDA.backends)
    return found


def test_every_case_runs_and_is_right_in_every_dtype(result: Result) -> None:
    assert [f"{row.case} {row.provider} {row.match}" for row in result.failures] == []
    assert {row.dtype for row in result.rows} == {"float32", "bfloat16", "float16"}
    assert not result.skipped
    peers = [row for row in result.rows if row.peer and row.error is not None]
    assert peers == []
    for row in result.rows:
        assert row.median is not None
        if row.provider.startswith("fused") and ", relu" not in row.provider:
            assert row.match is not None
    graphs = [row for row in result.rows if row.provider.endswith(GRAPH)]
    assert len(graphs) > len(result.rows) / 3
    assert all(row.peak_bytes is None for row in graphs)
    eager = [r for r in result.rows if r.provider in ("fused-cuda", "reference", "bound", "plain")]
    assert all(row.peak_bytes == 4000 for row in eager)


def test_the_result_answers_what_is_asked_of_a_gpu(result: Result, tmp_path: Path) -> None:
    stored = results.load(results.store(result, tmp_path))
    assert stored == result
    found = {f"{f['figure']} {f['detail']}".strip(): f["measured"] for f in stored.figures}
    for backend in CUDA.backends:
        for graph in ("", GRAPH):
            for words in (
                f"partial conv fwd+bwd, {backend}{graph}: time / conv2d mean of layers",
                f"region norm fwd+bwd, {backend}{graph}, with ReLU: time / batch norm "
                "RN_B 64x256x256@bf16",
            ):
                assert found[words] is not None, words
            step = f"cgan_pc_rn step, {backend}{graph}:"
            for words in ("faster than the reference", "time / plain network"):
                measured = found[f"{step} {words} faster layout"]
                assert (measured is not None) is (backend == "cuda")
            assert found[f"{step} faster than the compiled reference faster layout"] is None
        for dtype in ("bfloat16", "float16"):
            assert found[f"results that are not finite, {backend}, {dtype}"] == 0
    assert not any("bandwidth" in name for name in found), "no tensor here is beyond a cache"
    large = [row for row in stored.rows if row.group == "norm" and row.share]
    for row in large:
        row.shape = [16, 64, 256, 256]
    shares = [f for f in gpu_figures.compute(large, CUDA.backends) if "bandwidth" in f["figure"]]
    assert len(shares) == 2 * 2 * len(CUDA.backends)
    assert all(f["measured"] > 0 for f in shares)


def test_layer_ratios_are_of_the_same_execution_and_layout(result: Result) -> None:
    by_key = {
        (r.provider, r.layout): r.median
        for r in result.rows
        if (r.group, r.case, r.mode) == ("layer", "dec1@bf16", BOTH)
    }
    rows = Rows(result.rows)
    for graph in ("", GRAPH):
        ours, bound = (by_key[name + graph, CHANNELS_LAST] for name in ("fused-triton", "bound"))
        assert ours is not None
        assert bound is not None
        found = gpu_figures.layer_ratio(rows, "dec1@bf16", "triton", graph)
        assert found == pytest.approx(ours / bound)


def test_the_page_names_the_device_or_says_that_there_is_none(result: Result) -> None:
    assert gpu_docs.block(None, "") == "Not measured on a GPU yet."
    block = gpu_docs.block(result, "x.json")
    assert "Measured on Some GPU" in block
    assert "(../benchmarks/results/x.json)" in block
    assert "| dec1@bf16 |" in block
    assert f"`cgan_pc_rn@bf16`, training {STEP}" in block


def test_the_report_of_a_gpu(result: Result, tmp_path: Path) -> None:
    console = Console(width=report.WIDTH, record=True, file=(tmp_path / "out").open("w"))
    report.show(result, console)
    text = console.export_text()
    assert "fused-triton, graph" in text
    assert "dec1@bf16" in text


def test_past_its_budget_a_run_begins_nothing_and_names_what_it_left(tmp_path: Path) -> None:
    result = _run(tmp_path, budget_seconds=1e-9)
    assert len(result.skipped) == len(result.rows) > 0
    assert "layer/enc1@bf16/forward fused-cpu, graph (channels_last)" in result.skipped
    assert not result.failures
    console = Console(width=report.WIDTH, record=True, file=(tmp_path / "shown").open("w"))
    report.show(result, console)
    assert "left out, for want of time" in console.export_text()


def test_the_plan_of_a_gpu_has_unique_candidates_and_bfloat16_first() -> None:
    cases = list(all_cases(CUDA))
    assert len({case.id for case in cases}) == len(cases)
    dtypes = [case.dtype for case in cases]
    assert dtypes == sorted(dtypes, key=CUDA.dtypes.index)
    for case in cases:
        keys = {(c.provider, c.layout) for c in case.candidates}
        assert len(keys) == len(case.candidates)
        for backend in CUDA.backends:
            assert (f"fused-{backend}", CHANNELS_LAST) in keys
            assert (f"fused-{backend}{GRAPH}", CHANNELS_LAST) in keys
    step = next(case for case in cases if case.id == f"network/cgan_pc_rn@bf16/{STEP}")
    assert any(c.compiled for c in step.candidates)


@pytest.mark.parametrize(
    ("version", "said"), [(None, "is a build without CUDA"), ("13.0", "no usable NVIDIA GPU")]
)
def test_without_a_gpu_it_says_so_at_once(
    version: str | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert said in str(devices.unusable_gpu())
    with pytest.raises(SystemExit) as stopped:
        main(["--device", "cuda"])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--quick"], ["--budget", "0"], ["--budget", "nan"]])
def test_what_does_not_go_with_a_gpu_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--device", "cuda", "--list", *words])
    assert stopped.value.code == 2


def test_the_cases_of_a_gpu_can_be_listed_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cuda", "--list", "--only", "layer/enc2@"]) == 0
    names = ["enc2@bf16", "enc2@45%@bf16", "enc2@45%", "enc2@fp16", "enc2@45%@fp16"]
    wanted = [f"layer/{name}/{mode}" for name in names for mode in ("forward", BOTH)]
    assert capsys.readouterr().out.splitlines() == wanted
