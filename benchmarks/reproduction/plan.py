"""The runs: which recipes, what differs from them, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from inpaint_models.training.recipe import Recipe, Saving, load_recipe

from . import pictures, split

SEEDS = (0, 1, 2)
WIDTH = 8
"""Of generators and discriminators of the U-Nets and of GLCIC; published are 64 channels."""
AUTOENCODER_WIDTH = 16
BATCH = 4
"""Pictures at a time, of the U-Nets and of GLCIC."""
ITERATIONS, MORE_ITERATIONS = 3000, 5250
"""Of both U-Nets, and of the baseline: 1.75 times as many, as 140,000 are to 80,000."""
MARKS = (ITERATIONS, MORE_ITERATIONS)
ALPHA, HIGH_ALPHA = 4e-4, 4e-2
"""Weights of GLCIC's adversarial loss: the recipe's, and a hundred times that."""
GLCIC_PHASES = {"completion": 160, "discrimination": 40, "both": 400}
"""Iterations in the paper's proportions of 4, 1 and 10 epochs."""

PC, CGAN, RN = "pc", "cgan", "rn"
"""The paper's two, and the generator of the second without its discriminator."""
VANILLA, PARTIAL = "vanilla", "partial"
WHOLE, HOLE, WHOLE_HIGH, HOLE_HIGH = (
    "glcic-whole",
    "glcic-hole",
    "glcic-whole-high",
    "glcic-hole-high",
)
GLCIC = (WHOLE, HOLE, WHOLE_HIGH, HOLE_HIGH)

_UNET = (
    "image_size=256", f"batch_size={BATCH}", "data.transform.resize=384",
    f"generator.width={WIDTH}", "losses.perceptual=0", "losses.style=0",
)  # fmt: skip
_AUTOENCODER = (
    "data.kind=folder", "data.transform.resize=128", "batch_size=64",
    f"generator.width={AUTOENCODER_WIDTH}",
)  # fmt: skip
_GLCIC = (
    "image_size=128", f"batch_size={BATCH}", "data.transform.resize=192",
    "masks.options.size=[25,25]", f"generator.width={WIDTH}", f"discriminator.width={WIDTH}",
    "discriminator.local_size=64",
)  # fmt: skip
_MASKED = ("losses.mse=0", "losses.mse_hole=1")


@dataclass(frozen=True)
class Method:
    """A recipe with what differs from it.

    Attributes:
        recipe: its name.
        pictures: the kind of copies that it learns from.
        overrides: keys of the recipe, given anew.
        phases: iterations of the phases that are made; others are left out.
        every: checkpoints are written and evaluated after so many iterations.
        tests: names of the mask sets that it is evaluated with; all but the first at `MARKS` only.
    """

    recipe: str
    pictures: str
    overrides: tuple[str, ...]
    phases: dict[str, int]
    every: int
    tests: tuple[str, ...]


def _glcic(*overrides: str) -> Method:
    return Method("glcic", "small", (*_GLCIC, *overrides), GLCIC_PHASES, 40, (split.SQUARES,))


METHODS = {
    PC: Method(
        "pconv_unet", "large", _UNET, {"main": MORE_ITERATIONS}, 750, (split.SEEN, split.UNSEEN)
    ),
    CGAN: Method(
        "cgan_pc_rn", "large", (*_UNET, f"discriminator.width={WIDTH}"), {"main": ITERATIONS}, 750,
        (split.SEEN, split.UNSEEN, split.IN_BATCHES),
    ),
    RN: Method(
        "cgan_pc_rn", "large", (*_UNET, "losses.adversarial=0", "phases.main.train=[generator]"),
        {"main": ITERATIONS}, 750, (split.SEEN, split.UNSEEN, split.IN_BATCHES),
    ),
    VANILLA: Method(
        "vanilla_autoencoder", "tiles", _AUTOENCODER, {"main": 1000}, 250, (split.LINES,)
    ),
    PARTIAL: Method(
        "pconv_autoencoder", "tiles", _AUTOENCODER, {"main": 1000}, 250, (split.LINES,)
    ),
    WHOLE: _glcic(),
    HOLE: _glcic(*_MASKED),
    WHOLE_HIGH: _glcic(f"losses.adversarial={HIGH_ALPHA}"),
    HOLE_HIGH: _glcic(*_MASKED, f"losses.adversarial={HIGH_ALPHA}"),
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One method from one seed."""

    method: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.method}-{self.seed}"

    @property
    def total(self) -> int:
        """Iterations of all phases."""
        return sum(METHODS[self.method].phases.values())

    @property
    def evaluated(self) -> range:
        """The iterations after which it is evaluated."""
        every = METHODS[self.method].every
        return range(every, self.total + 1, every)

    def tests(self, step: int) -> tuple[str, ...]:
        """The mask sets that it is evaluated with after so many iterations."""
        tests = METHODS[self.method].tests
        return tests if step in MARKS else tests[:1]

    def recipe(self, work: Path) -> Recipe:
        """What is trained; pictures come from below `work`."""
        method = METHODS[self.method]
        overrides = [*method.overrides, f"seed={self.seed}", "data.workers=0"]
        recipe = load_recipe(method.recipe, overrides)
        # Every checkpoint stays: they are evaluated after the run.
        recipe.saving = Saving(min(50, method.every), 0, method.every, keep=100)
        recipe.phases = {
            name: replace(recipe.phases[name], epochs=None, iterations=iterations)
            for name, iterations in method.phases.items()
        }
        recipe.data.root = str(pictures.folder(work, method.pictures, "train"))
        return recipe


def runs() -> list[Run]:
    """Every run, seed by seed: whatever is finished can be compared."""
    return [Run(method, seed) for seed in SEEDS for method in METHODS]
