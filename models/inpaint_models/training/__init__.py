"""What it takes to train: data, masks and how they reach the network.

Needs more than the networks do: `pip install 'inpaint_ops[train]'`. `import inpaint_models` does
not import this package.
"""

from __future__ import annotations

from importlib.util import find_spec

_missing = [name for name in ("cv2", "numpy", "PIL", "webdataset") if find_spec(name) is None]
if _missing:
    raise ImportError(
        f"inpaint_models.training needs {', '.join(_missing)}: pip install 'inpaint_ops[train]'"
    )
