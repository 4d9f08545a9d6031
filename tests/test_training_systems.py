"""The systems of all registered networks, by their recipes: what each phase changes and logs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from inpaint_models import list_models
from inpaint_models.blocks import ConvUnit
from inpaint_models.errors import UsageError
from inpaint_models.losses import AdversarialLoss, attention_loss, vgg
from inpaint_models.losses import feature_matching as match_features
from inpaint_models.training.data import Batch
from inpaint_models.training.logs import FIXED_COLUMNS, read_log
from inpaint_models.training.loop import Trainer, make_fabric
from inpaint_models.training.recipe import Recipe, list_recipes, load_recipe
from inpaint_models.training.steps import _Method
from inpaint_models.training.systems import Outputs, System, create_system, list_systems
from inpaint_models.training.systems.adversarial import AdversarialSystem
from inpaint_models.training.systems.glcic import LocalSystem
from torch import Tensor, nn
from training_runs import draw_pictures, in_processes, train_on_cpu

pytestmark = pytest.mark.usefixtures("one_thread")


_PCONV = ("generator={width: 4, levels: 3}",)
_RN = ("generator={width: 4, blocks: 1}", "discriminator={width: 4}")
_CIFAR = ("generator={width: 4}", "data.kind=folder")
_CRITIC = ("generator={width: 4}", "discriminator.width=4")
_LOCAL = (*_CRITIC, "discriminator.local_size=16")
_RESIDUAL = ("generator={width: 4, blocks: 1}", "discriminator.width=4")
_SQUARES = "masks.options.size=[10, 10]"

# What makes a recipe small. Options of networks differ, so each recipe must have an entry.
SMALL: dict[str, tuple[str, ...]] = {
    "cgan_pc_rn": (*_PCONV, "discriminator={width: 4}"),
    "double_discriminator_gan": _LOCAL,
    "gan_bce": _CRITIC,
    "gan_mse": _CRITIC,
    "glcic": (*_LOCAL, _SQUARES),
    "glcic_dam": (*_LOCAL, _SQUARES),
    "glcic_unet": (*_LOCAL, _SQUARES),
    "isnet": _RN,
    "isnet_base": _RN,
    "isnet_base_ff": _RN,
    "pconv_autoencoder": _CIFAR,
    "pconv_unet": _PCONV,
    "residual_gan_mask": _RESIDUAL,
    "residual_gan_whole": _RESIDUAL,
    "rn_net": _RN,
    "unet_like": _RN,
    "unet_mse": ("generator={width: 4}",),
    "vanilla_autoencoder": _CIFAR,
}

# Parameters that no step can change, for reasons that the networks' cards give.
IDLE: dict[str, str] = {
    "cgan_pc_rn": r"generator\.enc\d\.norm\.foreground_gamma",
    "isnet_base": r"generator\.stages\.3\.(high_to_low|low_to_low|low_out)\..*",
}

# Parameters and buffers of the norms that `freeze_encoder_norm` keeps.
FROZEN: dict[str, str] = {"pconv_unet": r"generator\.enc\d\.norm\..*"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes weights of a VGG with few channels; takes its name, returns the file's."""
    monkeypatch.setattr(vgg, "_WIDTHS", (2, 2, 2, 2, 2))

    def write(network: str) -> str:
        path = tmp_path / f"{network}.pth"
        torch.save(vgg.VGG(network).state_dict(), path)
        return str(path)

    return write


def _small(name: str, weights: Callable[[str], str], *overrides: str) -> Recipe:
    recipe = load_recipe(
        name,
        (
            "image_size=32",
            "batch_size=2",
            "data.workers=0",
            "saving={log: 1, samples: 0, checkpoint: 1000}",
            *SMALL[name],
            *overrides,
        ),
    )
    if "perceptual" in recipe.losses:
        recipe.options["vgg"] = weights("vgg16" if "pc" in name else "vgg19")
    for phase in recipe.phases.values():
        phase.epochs, phase.iterations = None, 2
    return recipe


def _snapshot(trainer: Trainer) -> dict[str, Tensor]:
    return {
        f"{network}.{name}": value.detach().clone()
        for network, module in trainer.networks.items()
        for name, value in module.state_dict().items()
    }


def _cancelled(trainer: Trainer) -> set[str]:
    """Biases that the batch norm behind them cancels: they get rounding errors for gradients."""
    return {
        f"{network}.{name}.conv.bias"
        for network, module in trainer.networks.items()
        for name, unit in module.named_modules()
        if isinstance(unit, ConvUnit) and isinstance(unit.norm, nn.BatchNorm2d)
    }


def test_every_network_has_a_system_and_a_recipe() -> None:
    assert list_systems() == list_models()
    assert list_recipes() == list_models()


@pytest.mark.parametrize("name", list_models())
def test_every_phase_changes_what_it_trains_and_nothing_else(
    name: str,
    data: Path,
    tmp_path: Path,
    weights: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = _small(name, weights)
    recipe.data.root = str(data)
    trainer = Trainer(recipe, tmp_path / "run", make_fabric(recipe.precision, "cpu"))
    states = [_snapshot(trainer)]
    run_phase = Trainer._run_phase

    def watched(self: Trainer, phase: str, start: int, end: int) -> None:
        run_phase(self, phase, start, end)
        states.append(_snapshot(self))

    monkeypatch.setattr(Trainer, "_run_phase", watched)
    trainer.train()

    parameters = {
        f"{network}.{parameter}"
        for network, module in trainer.networks.items()
        for parameter, _ in module.named_parameters()
    }
    idle = {key for key in parameters if name in IDLE and re.fullmatch(IDLE[name], key)}
    assert bool(idle) == (name in IDLE)
    in_norms = {key for key in states[0] if name in FROZEN and re.fullmatch(FROZEN[name], key)}
    assert bool(in_norms) == any(p.freeze_encoder_norm for p in recipe.phases.values())
    assert len(states) == len(recipe.phases) + 1
    for phase, before, after in zip(recipe.phases.values(), states, states[1:], strict=False):
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        allowed = {key for key in before if key.split(".")[0] in phase.train} - idle
        if phase.freeze_encoder_norm:
            allowed -= in_norms
        # Buffers, such as running means, may change with the network that they belong to.
        assert changed <= allowed
        assert (parameters & allowed) - _cancelled(trainer) <= changed

    rows = read_log(tmp_path / "run" / "log.csv")
    assert len(rows) == 2 * len(recipe.phases)
    for row in rows:
        phase = recipe.phases[row["phase"]]
        expected = set(recipe.weights(row["phase"])) if "generator" in phase.train else set()
        if "discriminator" in phase.train:
            expected.add("discriminator")
        losses = {
            key: float(text)
            for key, text in row.items()
            if text and key not in FIXED_COLUMNS and not key.startswith("rate_")
        }
        assert losses.keys() == expected
        assert all(math.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("name", ["glcic", "glcic_dam", "glcic_unet"])
def test_completion_is_trained_in_three_phases(name: str) -> None:
    recipe = load_recipe(name)
    assert [(p.train, p.epochs) for p in recipe.phases.values()] == [
        (["generator"], 4),
        (["discriminator"], 1),
        (["generator", "discriminator"], 10),
    ]
    assert ["adversarial" in recipe.weights(phase) for phase in recipe.phases] == [
        False,
        True,
        True,
    ]


def test_the_second_stage_of_partial_convolution_is_slow_with_frozen_norms() -> None:
    recipe = load_recipe("pconv_unet")
    assert (recipe.rate("main", "generator"), recipe.rate("finetune", "generator")) == (2e-4, 5e-5)
    assert [phase.freeze_encoder_norm for phase in recipe.phases.values()] == [False, True]


def _system(recipe: Recipe) -> System:
    """As the loop sets it up, without the loop."""
    torch.manual_seed(0)
    system = create_system(recipe)
    for network, method in system.methods.items():
        setattr(system, network, _Method(getattr(system, network), method))
    return system


def _batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(2, 1, 32, 32)
    mask[0, :, 8:20, 10:24] = 0
    mask[1, :, 3:15, 5:11] = 0
    return Batch(torch.rand(2, 3, 32, 32, generator=generator), mask, ["a", "b"])


@pytest.mark.parametrize("name", list_models())
def test_unmeasured_truth_in_a_hole_reaches_no_loss_and_no_gradient(
    name: str, weights: Callable[[str], str]
) -> None:
    recipe = _small(name, weights)
    system = _system(recipe)
    batch = _batch()
    batch.image[0, :, 10:14, 12:20] = torch.nan
    batch = system.prepare(batch)
    outputs = system.predict(batch)
    wanted = [loss for loss in system.losses if loss in recipe.losses]
    terms = system.generator_terms(batch, outputs, wanted)
    assert terms.keys() == set(wanted)
    if isinstance(system, AdversarialSystem):
        terms |= system.discriminator_terms(batch, outputs.detached())
    total = torch.stack(list(terms.values())).sum()
    assert total.isfinite()
    total.backward()
    for network in (system.generator, system.discriminator):
        for parameter in () if network is None else network.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()


def test_the_blind_network_sees_black_holes(weights: Callable[[str], str]) -> None:
    system = _system(_small("vanilla_autoencoder", weights))
    system.generator.eval()
    batch = _batch()
    black = batch._replace(image=torch.where(batch.mask == 0, 0, batch.image))
    assert torch.equal(system.predict(batch).prediction, system.generator(black.image, batch.mask))


class _Recorder(nn.Module):
    """A discriminator that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        self.seen.append(inputs)
        return inputs[0].mean((1, 2, 3))


@pytest.mark.parametrize("name", ["glcic", "double_discriminator_gan"])
def test_local_crops_lie_around_the_hole_or_anywhere(
    name: str, weights: Callable[[str], str]
) -> None:
    system = _system(_small(name, weights))
    assert isinstance(system, LocalSystem)
    recorder = _Recorder()
    system.discriminator = recorder
    batch = _batch()
    # The picture tells where a crop comes from: one channel for each axis.
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    batch = batch._replace(image=torch.stack([rows, columns, rows]).expand(2, 3, 32, 32) / 32)
    batch = system.prepare(batch)
    for _ in range(20):
        # A step reads no value of a mask: on a GPU it would have to wait for it.
        blind = batch._replace(mask=batch.mask.to("meta"))
        system.discriminator_terms(blind, Outputs(batch.image))
    corners = [(crop[:, :2, 0, 0] * 32).tolist() for _, crop in recorder.seen]
    assert all(crop.shape == (2, 3, 16, 16) for _, crop in recorder.seen)
    # Middles of the holes (14, 17) and (9, 8), less half of 16; moved into the picture.
    assert corners[1::2] == [[[6, 9], [1, 0]]] * 20
    assert len({tuple(map(tuple, real)) for real in corners[::2]}) > 10


@pytest.mark.parametrize("judged", ["prediction", "composite", "hole"])
def test_the_discriminator_sees_what_is_chosen(judged: str, weights: Callable[[str], str]) -> None:
    system = _system(_small("gan_bce", weights, f"options.judged={judged}"))
    recorder = _Recorder()
    system.discriminator = recorder
    batch, prediction = _batch(), torch.rand(2, 3, 32, 32)
    system.discriminator_terms(batch, Outputs(prediction))
    (real,), (fake,) = recorder.seen
    hole = batch.mask == 0
    known = {"prediction": prediction, "composite": batch.image, "hole": torch.zeros(())}[judged]
    assert torch.equal(real, batch.image)
    assert torch.equal(fake, torch.where(hole, prediction, known))


def test_a_conditional_discriminator_of_the_hole_sees_nothing_else_of_an_image(
    weights: Callable[[str], str],
) -> None:
    system = _system(_small("cgan_pc_rn", weights, "discriminator.region=hole"))
    assert isinstance(system, AdversarialSystem)
    batch = _batch()
    image = torch.rand(2, 3, 32, 32)
    first = system.judge(batch, image, real=False)
    assert torch.equal(
        first, system.judge(batch, torch.where(batch.mask == 1, 1, image), real=True)
    )
    assert not torch.equal(first, system.judge(batch, image + 0.1 * (1 - batch.mask), real=True))


def test_isnet_trains_with_the_hinge_loss_on_the_hole(weights: Callable[[str], str]) -> None:
    hinge = ("options.adversarial=hinge", "options.judged=hole")
    system = _system(_small("isnet", weights, *hinge))
    assert system.discriminator is not None
    system.discriminator.eval()  # spectral norm's estimate stays as it is
    batch = _batch()
    outputs = system.predict(batch).detached()
    hidden = outputs.prediction * (1 - batch.mask)
    real, fake = system.discriminator(batch.image), system.discriminator(hidden)
    true_hole = system.discriminator(batch.image * (1 - batch.mask))
    terms = system.discriminator_terms(batch, outputs)
    terms |= system.generator_terms(batch, outputs, ["adversarial", "feature_matching"])
    expected = {
        "discriminator": AdversarialLoss("hinge").discriminator(real[0], fake[0]),
        "adversarial": -fake[0].mean(),
        "feature_matching": match_features(fake[1], true_hole[1]),
    }
    torch.testing.assert_close(terms, expected)


def test_attention_maps_reach_their_loss(weights: Callable[[str], str]) -> None:
    system = _system(_small("glcic_dam", weights))
    batch = _batch()
    outputs = system.predict(batch)
    maps = outputs.extras["attention"]
    assert [m.shape for m in maps] == [(2, 1, 32, 32)] * 4
    term = system.generator_terms(batch, outputs, ["attention"])["attention"]
    assert term == attention_loss(maps, outputs.prediction, batch.image, batch.mask)


def test_idle_layers_do_not_stop_data_parallelism(
    data: Path, tmp_path: Path, weights: Callable[[str], str]
) -> None:
    recipe = _small("isnet_base", weights, "generator.width=2", "discriminator.width=2")
    recipe.data.root = str(data)
    in_processes(2, train_on_cpu, recipe, tmp_path / "run")
    assert len(read_log(tmp_path / "run" / "log.csv")) == 2


@pytest.mark.parametrize(
    "name", ["cgan_pc_rn", "isnet", "isnet_base", "isnet_base_ff", "unet_like"]
)
def test_perceptual_losses_without_weights_are_refused(name: str) -> None:
    network = "VGG16" if name == "cgan_pc_rn" else "VGG19"
    with pytest.raises(UsageError) as caught:
        create_system(load_recipe(name, SMALL[name]))
    assert f"need the weights of {network}: options.vgg={network.lower()}-" in str(caught.value)
    assert str(caught.value).endswith(".pth), or losses.perceptual=0 losses.style=0")
    create_system(load_recipe(name, [*SMALL[name], "losses.perceptual=0", "losses.style=0"]))


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        (
            "gan_bce",
            "discriminator.image_size=64",
            "discriminator.image_size=64 must be image_size=32",
        ),
        (
            "glcic",
            "discriminator.image_size=64",
            "discriminator.image_size=64 must be image_size=32",
        ),
        ("glcic", "discriminator.local_size=40", "local_size=40 must be at most image_size=32"),
        (
            "glcic",
            "options.judged=whole",
            "judged must be one of 'prediction', 'composite', 'hole'",
        ),
        ("glcic", "options.adversarial=wgan", "kind must be one of 'bce', 'nsgan'"),
        ("glcic", "losses.attention=1", "unknown loss 'attention'"),
        ("glcic", "options.vgg=x", "unknown option 'vgg'"),
        ("unet_mse", "losses.adversarial=1", "unknown loss 'adversarial'"),
    ],
)
def test_what_does_not_go_together_is_refused(name: str, override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_system(load_recipe(name, ["image_size=32", *SMALL[name], override]))
