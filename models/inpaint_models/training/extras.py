"""Packages that only training and evaluation need, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import MissingPackageError


def require(module: str, package: str) -> ModuleType:
    """Import `module`, or raise an error that names `package` and the extra it comes with."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # The module is there, but something that it imports is not: that is another story.
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise
        raise MissingPackageError(
            f"this needs {package}, which is not installed: pip install 'inpaint_ops[train]'"
        ) from error
