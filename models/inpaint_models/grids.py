"""Filling grids of numbers with names and coordinates: xarray and NetCDF, the extra `grids`."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Hashable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Mask, Settings, check_axes, fill_array
from .errors import DataError, MissingPackageError, UsageError, unknown
from .files import replacing

if TYPE_CHECKING:
    import xarray

_DOWN = frozenset(("lat", "latitude", "nav_lat", "rlat", "y"))
_ACROSS = frozenset(("lon", "longitude", "nav_lon", "rlon", "x"))


def fill_data_array(array: xarray.DataArray, mask: Mask, settings: Settings) -> xarray.DataArray:
    """Fill a field; coordinates, attributes, name and order of dimensions stay.

    With `axes` the dimensions are as it says. Without, latitude and longitude (or y and x) are
    found by their names, else they are the last two; along all other dimensions each map is filled
    by itself.

    Args:
        array: of at least two dimensions, with NaN where it is to be filled, or `mask`.
        mask: as of `fill`, or an xarray.DataArray of the same dimensions, or some of them, in any
            order. Where both have a coordinate, it must hold the same labels, in any order.
        settings: of `fill`.

    Raises:
        ValueError: as of `fill`; or the mask's dimensions or coordinates are not the array's.
    """
    import xarray

    if array.ndim < 2:
        raise ValueError(f"image must have at least two dimensions, got {array.dims}")
    if settings.axes is not None:
        if isinstance(mask, xarray.DataArray):
            mask = _by_letter(mask, array, settings.axes)
        return array.copy(data=fill_array(array.values, mask, settings))
    down, across = _named(array, _DOWN), _named(array, _ACROSS)
    if down is None or across is None:
        down, across = map(str, array.dims[-2:])
    others = [dim for dim in array.dims if dim not in (down, across)]
    ordered = array.transpose(*others, down, across)
    if isinstance(mask, xarray.DataArray):
        mask = _laid_out(mask, array, ordered.dims).reshape(-1, *ordered.shape[-2:])
    maps = ordered.values.reshape(-1, *ordered.shape[-2:])
    filled = fill_array(maps, mask, dataclasses.replace(settings, axes="NHW"))
    return ordered.copy(data=filled.reshape(ordered.shape)).transpose(*array.dims)


def fill_npy(path: Path, out: Path, **arguments: Any) -> int:
    """Fill an array's file.

    Args:
        path: a .npy with floats, NaN where something is missing.
        out: another one.
        **arguments: of `fill`.

    Returns:
        How many values were filled.

    Raises:
        DataError: `path` holds no such array.
    """
    from .filling import fill

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    floats = isinstance(array, np.ndarray) and array.dtype.kind == "f"
    if not floats or array.dtype.itemsize > 8:
        raise DataError(
            f"{path} must hold one array of floats of up to 64 bits, NaN where something is missing"
        )
    filled = fill(array, **arguments)
    with replacing(out) as temporary, temporary.open("wb") as file:
        np.save(file, filled)
    return int(np.isnan(array).sum())


def fill_netcdf(path: Path, out: Path, variable: str | None, **arguments: Any) -> int:
    """Fill one variable of a NetCDF file; all others, and all attributes, are copied.

    Args:
        path: the file; missing values (`_FillValue`) are holes.
        out: another one.
        variable: its name; None if there is only one of two or more dimensions.
        **arguments: of `fill`.

    Returns:
        How many values were filled.

    Raises:
        MissingPackageError: xarray or netCDF4 is not installed.
        DataError: `path` cannot be read, or holds what could not be written again: groups, or a
            variable with two different values for what is missing.
        UsageError: there is no such variable, or several and none is named.
    """
    for module in ("xarray", "netCDF4"):
        if find_spec(module) is None:
            raise MissingPackageError(
                f"NetCDF needs {module.lower()}, which is not installed: "
                f"pip install 'inpaint_ops[grids]'"
            )
    from .filling import fill

    dataset = _read_netcdf(path)
    fields = [
        str(name)
        for name, field in dataset.data_vars.items()
        if field.ndim >= 2 and field.dtype.kind == "f"
    ]
    if variable is None and len(fields) != 1:
        raise UsageError(f"{path} has the fields {', '.join(fields) or 'none'}: give --variable")
    if variable is not None and variable not in fields:
        raise UsageError(f"{path}: {unknown('field', variable, fields)}")
    name = fields[0] if variable is None else variable
    field = dataset[name]
    dataset[name] = fill(field, **arguments)
    dataset[name].encoding = field.encoding
    with replacing(out) as temporary:
        dataset.to_netcdf(temporary, engine="netcdf4")
    return int(field.isnull().sum())


def _read_netcdf(path: Path) -> xarray.Dataset:
    """All of a file, in a state to be written again as it was."""
    import netCDF4
    import xarray

    try:
        with netCDF4.Dataset(path) as file:
            groups = ", ".join(file.groups)
        if groups:
            raise DataError(f"{path} has the groups {groups}: take one out into its own file first")
        with warnings.catch_warnings():
            # What it says is refused below.
            warnings.filterwarnings("ignore", ".*multiple fill values", xarray.SerializationWarning)
            # Times stay the numbers that they are.
            dataset = xarray.load_dataset(path, engine="netcdf4", decode_times=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for name, variable in dataset.variables.items():
        # Else xarray gives NaN to every one of floats.
        variable.encoding.setdefault("_FillValue", None)
        nothing = variable.isel({dim: slice(0) for dim in variable.dims})
        try:
            xarray.conventions.encode_cf_variable(nothing, name=name)
        except ValueError as error:
            raise DataError(f"{path} could not be written again: {error}") from error
    return dataset


def _by_letter(mask: xarray.DataArray, array: xarray.DataArray, axes: str) -> NDArray[Any]:
    """A mask's values in the order that `fill` takes: N, H, W, with C only if the mask has it."""
    check_axes(axes, array.ndim)
    dims = {letter: array.dims[axes.index(letter)] for letter in "NCHW" if letter in axes}
    if "C" in dims and dims["C"] not in mask.dims:
        del dims["C"]
    return _laid_out(mask, array, tuple(dims.values()))


def _laid_out(
    mask: xarray.DataArray, array: xarray.DataArray, dims: tuple[Hashable, ...]
) -> NDArray[Any]:
    """A mask's values along `dims`, which are the array's, at the array's coordinates."""
    values = mask.variable
    for dim in mask.dims:
        if dim not in dims:
            raise ValueError(f"mask must have dimensions of the image, {array.dims}, got {dim!r}")
        if mask.sizes[dim] != array.sizes[dim]:
            raise ValueError(
                f"mask must have the image's size along {dim!r}, {array.sizes[dim]}, got "
                f"{mask.sizes[dim]}"
            )
        if dim in mask.coords and dim in array.coords:
            wanted, given = array.get_index(dim), mask.get_index(dim)
            if wanted.equals(given):
                continue
            unique = wanted.is_unique and given.is_unique
            # Labels are compared as they are: positions are never guessed from near ones.
            order = given.get_indexer(wanted) if unique else np.array([-1])
            if (order < 0).any():
                raise ValueError(
                    f"mask must have the image's coordinate {dim!r}, in any order, got other "
                    f"labels; if it is meant to be the same, set "
                    f"mask[{dim!r}] = image[{dim!r}]"
                )
            values = values.isel({dim: order})
    sizes = {dim: array.sizes[dim] for dim in dims}
    return np.asarray(values.set_dims(sizes).transpose(*dims).values)


def _named(array: xarray.DataArray, names: frozenset[str]) -> str | None:
    return next((str(dim) for dim in array.dims if str(dim).lower() in names), None)
