"""CIFAR-10's published files, without trusting them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_PIXELS = 3 * 32 * 32


def read_batches(root: Path, train: bool) -> dict[str, Pixels]:
    """Batches by name, (N, 3, 32, 32) each; see `sources.CIFAR10`."""
    batches = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
    for folder in (root, root / "cifar-10-batches-bin", root / "cifar-10-batches-py"):
        if (folder / f"{batches[0]}.bin").is_file():
            return {name: _read_binary(folder / f"{name}.bin") for name in batches}
        if (folder / batches[0]).is_file():
            return {name: _read_pickle(folder / name) for name in batches}
    raise FileNotFoundError(
        f"root must hold cifar-10-batches-bin or cifar-10-batches-py with {batches[0]}, "
        f"got {str(root)!r}"
    )


def _read_binary(path: Path) -> Pixels:
    """Records of one label byte and 3072 pixel bytes."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    if not data.size or data.size % (1 + _PIXELS):
        raise ValueError(f"{path}: {data.size} bytes are not a multiple of {1 + _PIXELS}")
    records = data.reshape(-1, 1 + _PIXELS)
    if records[:, 0].max() > 9:
        raise ValueError(f"{path}: labels must be in [0, 9], found {records[:, 0].max()}")
    return records[:, 1:].reshape(-1, 3, 32, 32)


def _read_pickle(path: Path) -> Pixels:
    """A dict whose b"data" is (N, 3072) uint8."""
    with path.open("rb") as file:
        try:
            batch = _Unpickler(file, encoding="bytes").load()
        except Exception as error:  # a malformed pickle can raise nearly anything
            raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    data = batch.get(b"data", batch.get("data")) if isinstance(batch, dict) else None
    if not isinstance(data, _Array):
        raise ValueError(f"{path}: holds no array 'data'")
    try:
        return data.pixels()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class _Type:
    """Stands in for numpy.dtype: remembers its name."""

    def __init__(self, name: object, *flags: object) -> None:
        self.name = name.decode("ascii") if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        """Byte order and fields; bytes have none."""


class _Array:
    """Stands in for numpy.ndarray, whose own __setstate__ trusts what it is given."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def pixels(self) -> Pixels:
        """The array, if it is (N, 3072) of bytes."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("'data' is not an array")
        _, shape, kind, fortran, data = self.state
        if not isinstance(kind, _Type) or kind.name != "u1" or not isinstance(data, bytes):
            raise ValueError("'data' must be of dtype uint8")
        if not (isinstance(shape, tuple) and len(shape) == 2 and shape[0] and shape[1] == _PIXELS):
            raise ValueError(f"'data' must have shape (N, {_PIXELS}), got {shape}")
        flat = np.frombuffer(data, np.uint8)
        if flat.size != shape[0] * _PIXELS:
            raise ValueError(f"'data' has {flat.size} bytes for a shape of {shape}")
        table = flat.reshape(shape, order="F" if fortran else "C")
        return np.ascontiguousarray(table).reshape(-1, 3, 32, 32)


def _reconstruct(*arguments: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in old pickles."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected encoding {encoding!r}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], object] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"asks for {module}.{name}, which no CIFAR-10 file needs"
            ) from None
