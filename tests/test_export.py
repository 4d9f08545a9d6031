"""Networks as ONNX files and exported programs: every registered generator, any batch and size."""

from __future__ import annotations

import copy
import json
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import onnxruntime
import pytest
import torch
from inpaint_cli import main
from inpaint_models import composite, export, export_model, export_program, list_models
from inpaint_models.errors import InpaintError, MissingPackageError
from model_inputs import holes, picture, small_model
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._ops import OpOverload

from inpaint_ops import RN_B, RN_L, PartialConv2d, use_backend

pytestmark = pytest.mark.usefixtures("one_thread")

DOCS = Path(__file__).parent.parent / "docs"

# Of up to fifty layers, each of which rounds a few times.
ROUNDINGS = 256

# Two levels have a block of each kind; tracing takes the longer the more there are.
LEVELLED = ("cgan_pc_rn", "pconv_unet")


class Exported(NamedTuple):
    name: str
    net: nn.Module
    program: torch.export.ExportedProgram
    model: onnx.ModelProto
    run: Callable[[Tensor, Tensor], Tensor]


def runner(model: onnx.ModelProto) -> Callable[[Tensor, Tensor], Tensor]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(image: Tensor, mask: Tensor) -> Tensor:
        (found,) = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
        return torch.from_numpy(found)

    return run


@pytest.fixture(scope="module", params=list_models())
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One export of each generator; both forms of it from the same program."""
    torch.manual_seed(20)
    levels: dict[str, object] = {"levels": 2} if request.param in LEVELLED else {}
    net = small_model(request.param, **levels).eval()
    for module in net.modules():
        if isinstance(module, RN_L):
            module.threshold = 0.5  # at random weights, attention is on both sides of it
        # Weights that start so small make every picture grey.
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.weight.std() < 0.01:
            nn.init.kaiming_normal_(module.weight)
    programs: list[torch.export.ExportedProgram] = []

    def remember(*arguments: Any, **options: Any) -> torch.export.ExportedProgram:
        programs.append(export_program(*arguments, **options))
        return programs[-1]

    path = tmp_path_factory.mktemp("export") / "net.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_program", remember)
        assert export_model(net, path, result="prediction") is None
    model = onnx.load(path)
    return Exported(request.param, net, programs[0], model, runner(model))


def close(found: Tensor, expected: Tensor, length: float = ROUNDINGS) -> None:
    assert found.shape == expected.shape
    allowed = length * torch.finfo(torch.float32).eps * float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=allowed)


@torch.no_grad()
def check(exported: Exported, image: Tensor, mask: Tensor) -> Tensor:
    """NaN under the holes of what the exported forms get; what the network makes of it."""
    clean = torch.where(mask == 0, 0.0, image)
    dirty = torch.where(mask == 0, torch.nan, image)
    expected: Tensor = exported.net(clean, mask)
    with use_backend("reference"):
        wide = copy.deepcopy(exported.net).double()(clean.double(), mask.double())
    for run in (exported.run, exported.program.module()):
        found = run(dirty, mask)
        close(found, expected)
        close(found, wide)
    return expected


@pytest.mark.parametrize("size", [(1, 33, 50), (3, 24, 17)])
def test_another_batch_and_size(exported: Exported, size: tuple[int, int, int]) -> None:
    expected = check(exported, picture(*size), holes(*size))
    # The tolerance tells this picture from a grey one.
    rounding = torch.finfo(torch.float32).eps * float(expected.abs().max())
    assert expected.std() > 10 * ROUNDINGS * rounding


def test_no_hole_nothing_but_hole_and_soft_masks(exported: Exported) -> None:
    image = picture(2, 18, 35)
    for mask in (torch.ones(2, 1, 18, 35), torch.zeros(2, 1, 18, 35), picture(2, 18, 35)[:, :1]):
        check(exported, image, mask)


@torch.no_grad()
def test_one_row_of_two_pixels(exported: Exported) -> None:
    # One pixel alone, padded, is a picture of one colour: instance norm makes rounding of it large.
    image, mask = picture(1, 1, 2), torch.ones(1, 1, 1, 2)
    expected = exported.net(image, mask)
    close(exported.run(image, mask), expected)
    if exported.name in ("cgan_pc_rn", "glcic_dam", "unet_like"):  # as docs/export.md says
        with pytest.raises(AssertionError, match="Guard failed"):
            exported.program.module()(image, mask)
    else:
        close(exported.program.module()(image, mask), expected)


def test_standard_operators_only(exported: Exported) -> None:
    calls = [node.target for node in exported.program.graph.nodes if node.op == "call_function"]
    assert len(calls) > 10
    for target in calls:
        if isinstance(target, OpOverload):
            assert target.namespace == "aten", target
        else:  # arithmetic of sizes, and results of several parts
            module = getattr(target, "__module__", "")
            assert module in ("_operator", "math", "torch") or target is operator.getitem, target
    graph = exported.model.graph
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    assert not exported.model.functions
    assert {entry.domain for entry in exported.model.opset_import} <= {"", "ai.onnx"}
    assert not any("parametrizations" in value.name for value in graph.initializer)


def test_names_axes_and_description(exported: Exported) -> None:
    def shapes(values: Any) -> dict[str, list[str | int]]:
        return {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in values
        }

    graph = exported.model.graph
    image, plane = (["batch", channels, "height", "width"] for channels in (3, 1))
    assert shapes(graph.input) == {"image": image, "mask": plane}
    assert list(shapes(graph.output)) == ["prediction"]
    about = {entry.key: entry.value for entry in exported.model.metadata_props}
    assert about["inpaint_ops.network"] == type(exported.net).__name__
    assert "1 = valid" in about["inpaint_ops.mask"]
    assert about["inpaint_ops.result"].startswith("prediction: ")
    norms = any(isinstance(module, (RN_B, RN_L)) for module in exported.net.modules())
    assert norms == ("depends on the others" in about["inpaint_ops.batch"])


# Results, other networks, errors -----------------------------------------------------------------


class Tiny(nn.Module):
    """A network that no paper has; its output leaves [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = PartialConv2d(2, 2, 3, padding=1, return_mask=True)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = self.conv(image, mask)[0]
        return 4 * y


def tiny() -> nn.Module:
    return Tiny().eval()


@torch.no_grad()
def test_filled_keeps_the_known_pixels_and_clamps_the_others(tmp_path: Path) -> None:
    net, path = tiny(), tmp_path / "tiny.onnx"
    assert export_model(net, path, channels=2, metadata={"mine": "yes"}) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.onnx"]
    model = onnx.load(path)
    assert {e.key: e.value for e in model.metadata_props}["inpaint_ops.mine"] == "yes"
    assert model.graph.output[0].name == "filled"
    assert {entry.version for entry in model.opset_import} == {20}
    image, mask = picture(2, 20, 31, channels=2) + 0.5, holes(2, 20, 31)
    mask[:, :, 0, -3:] = 0.5
    prediction = net(torch.where(mask == 0, 0.0, image), mask)
    assert prediction.min() < 0
    assert prediction.max() > 1
    filled = runner(model)(torch.where(mask == 0, torch.nan, image), mask)
    close(filled, composite(prediction.clamp(0, 1), image, mask))
    known = (mask == 1).expand_as(image)
    assert torch.equal(filled[known], image[known])
    assert filled[~known].min() == 0
    assert filled[~known].max() == 1


def test_check_runs_the_file_and_a_wrong_one_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, path = tiny(), tmp_path / "tiny.pt2"
    difference = export_model(net, path, channels=2, check=20)
    assert difference is not None
    assert 0 <= difference < 1e-5
    extra = {"inpaint_ops.network": ""}
    torch.export.load(path, extra_files=extra)
    assert extra["inpaint_ops.network"] == "Tiny"
    with pytest.raises(FileExistsError, match=r"tiny\.pt2 is there already"):
        export_model(net, path, channels=2)

    before = path.read_bytes()
    for wrong, message in [
        (lambda image, mask: torch.where(mask == 1, image, 0.3), "result differs .* by 0"),
        (lambda image, mask: torch.full_like(image, torch.nan), "result differs .* by nan"),
        (lambda image, mask: image[:, :1], r"returns \(1, 1, 20, 20\) where the network returns"),
    ]:
        monkeypatch.setattr(export, "_runner", lambda path, wrong=wrong: wrong)
        with pytest.raises(InpaintError, match=message):
            export_model(net, path, channels=2, check=20, overwrite=True)
        assert path.read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.pt2"]


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_norms_by_hooks_are_computed_once_also_after_a_call(norm: str, tmp_path: Path) -> None:
    net = Tiny()
    getattr(nn.utils, norm)(net.conv)
    with torch.no_grad():
        for name, parameter in net.conv.named_parameters():
            if name != "bias":
                parameter.mul_(3)  # so that the weight is not the one from before the norm
    expected = net.eval()(picture(1, 9, 9, channels=2), holes(1, 9, 9)).detach()
    assert net.conv.weight.grad_fn is not None  # which copying refuses
    names, hooks = list(net.state_dict()), len(net.conv._forward_pre_hooks)
    found = export_model(net, tmp_path / "net.pt2", channels=2, check=20, result="prediction")
    assert found is not None
    assert found < 1e-5
    assert (list(net.state_dict()), len(net.conv._forward_pre_hooks)) == (names, hooks)
    program = torch.export.load(tmp_path / "net.pt2")
    assert not any(name.endswith(("_g", "_v", "_orig", "_u")) for name in program.state_dict)
    close(program.module()(picture(1, 9, 9, channels=2), holes(1, 9, 9)), expected)


@pytest.mark.parametrize("opset", [18, 23])
def test_opsets(tmp_path: Path, opset: int) -> None:
    found = export_model(tiny(), tmp_path / "tiny.onnx", channels=2, opset=opset, check=9)
    assert found is not None
    assert found < 1e-5
    assert {e.version for e in onnx.load(tmp_path / "tiny.onnx").opset_import} == {opset}


def test_what_cannot_be_exported_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, path = small_model("unet_mse").eval(), tmp_path / "net.onnx"
    with pytest.raises(ValueError, match=r"net must be in evaluation mode.*call \.eval\(\)"):
        export_program(small_model("unet_mse"))
    half_trained = small_model("unet_mse").eval()
    next(iter(half_trained.children())).train()
    with pytest.raises(ValueError, match="net must be in evaluation mode"):
        export_program(half_trained)
    with pytest.raises(TypeError, match=r"net must be of float32 parameters, got torch\.float64"):
        export_program(small_model("unet_mse").eval().double())
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module, got int"):
        export_program(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module, got NoneType"):
        export_model(None, path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"channels must be given .* such as Tiny"):
        export_program(tiny())
    with pytest.raises(ValueError, match="result must be one of 'filled', 'prediction', got 'all'"):
        export_program(net, result="all")
    with pytest.raises(ValueError, match=r"suffix must be one of '\.onnx', '\.pt2', got '\.pb'"):
        export_model(net, "net.pb")
    with pytest.raises(ValueError, match="opset must be from 18 to 23, got 12"):
        export_model(net, path, opset=12)
    with pytest.raises(ValueError, match=r"opset must be None for a \.pt2 file, got 20"):
        export_model(net, "net.pt2", opset=20)
    with pytest.raises(ValueError, match="check must be at least 1, got 0"):
        export_model(net, path, check=0)
    with monkeypatch.context() as patch:
        patch.setattr(export, "_MOST_BYTES", 1000)
        with pytest.raises(ValueError, match=r"net must have less than 2 GB of weights.*\.pt2"):
            export_model(net, path)
    missing = ("onnxscript", "onnxruntime")
    monkeypatch.setattr(export, "find_spec", lambda name: None if name in missing else name)
    for check_too, names in ((None, "onnxscript"), (8, "onnxscript, onnxruntime")):
        text = rf"needs {names}: pip install 'inpaint_ops\[export\]'"
        with pytest.raises(MissingPackageError, match=text):
            export_model(net, path, check=check_too)
    assert list(tmp_path.iterdir()) == []


# The command and the page -------------------------------------------------------------------------


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, object] = {"width": 4}
    net = small_model("unet_mse", **options).eval()
    named = {"model": "unet_mse", "options": json.dumps(options), "step": "7"}
    save_file(net.state_dict(), "generator.safetensors", named)

    assert main(["export", "generator.safetensors", "--check", "--size", "24"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "unet_mse.onnx"
    difference = re.fullmatch(r"largest difference from PyTorch: (\S+)", second)
    assert difference is not None
    assert float(difference[1]) < 1e-5
    model = onnx.load("unet_mse.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert {key: about[f"inpaint_ops.{key}"] for key in named} == named
    image, mask = picture(1, 19, 30), holes(1, 19, 30)
    with torch.no_grad():
        close(
            runner(model)(image, mask),
            composite(net(torch.where(mask == 0, 0.0, image), mask).clamp(0, 1), image, mask),
        )

    before = Path("unet_mse.onnx").read_bytes()
    for arguments, message in [
        ([], "unet_mse.onnx is there already: give another --output, or --force"),
        (["-o", "net.pb"], "the file's suffix must be one of '.onnx', '.pt2', got '.pb'"),
        (["--size", "9"], "--size is for --check: give both"),
        (["-o", "net.pt2", "--check", "--size", "0"], "check must be at least 1, got 0"),
        (["-o", "net.onnx", "--opset", "9"], "opset must be from 18 to 23, got 9"),
    ]:
        assert main(["export", "generator.safetensors", *arguments]) == 2
        assert capsys.readouterr().err == f"inpaint: {message}\n"
    assert main(["export", "nowhere"]) == 2
    assert "unknown pretrained model 'nowhere'" in capsys.readouterr().err
    assert main(["export", "generator.safetensors", "-o", "missing/net.pt2"]) == 1
    assert capsys.readouterr().err == "inpaint: missing: no such folder\n"
    assert Path("unet_mse.onnx").read_bytes() == before

    assert main(["export", "generator.safetensors", "--force", "--result", "prediction"]) == 0
    assert onnx.load("unet_mse.onnx").graph.output[0].name == "prediction"
    assert main(["export", "generator.safetensors", "-o", "net.pt2"]) == 0
    assert capsys.readouterr().out.splitlines() == ["unet_mse.onnx", "net.pt2"]
    extra = {"inpaint_ops.model": ""}
    program = torch.export.load("net.pt2", extra_files=extra)
    assert extra["inpaint_ops.model"] == "unet_mse"
    assert program.module()(image, mask).shape == image.shape


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "export.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "export.md", "exec"), names)
    image, mask = (torch.from_numpy(names[name]) for name in ("image", "mask"))
    with torch.no_grad():
        close(names["prediction"], names["net"](torch.where(mask == 0, 0, image), mask))
    filled = composite(names["prediction"].clamp(0, 1), image, mask)
    close(torch.from_numpy(names["filled"]), filled)
    targets = {str(n.target) for n in names["program"].graph.nodes if n.op == "call_function"}
    assert "aten.convolution.default" in targets
    assert not any("inpaint_ops" in target for target in targets)
