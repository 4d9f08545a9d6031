"""What it takes to train: data, masks and how they reach the network.

Needs more than the networks do: `pip install 'inpaint_ops[train]'`. `import inpaint_models` does
not import this package.
"""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import MissingPackageError

_NEEDED = {
    "cv2": "opencv-python-headless",
    "lightning_fabric": "lightning-fabric",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "omegaconf": "omegaconf",
    "PIL": "pillow",
    "rich": "rich",
    "safetensors": "safetensors",
    "torchmetrics": "torchmetrics",
    "webdataset": "webdataset",
    "yaml": "pyyaml",
}

_missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
if _missing:
    raise MissingPackageError(
        f"inpaint_models.training needs {', '.join(_missing)}: pip install 'inpaint_ops[train]'"
    )
