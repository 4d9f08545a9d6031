"""Filling grids of numbers with names and coordinates: xarray and NetCDF, the extra `grids`."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Mask, Settings, fill_array
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
        mask: as of `fill`, or an xarray.DataArray of the same dimensions, or some of them.
        settings: of `fill`.
    """
    if array.ndim < 2:
        raise ValueError(f"image must have at least two dimensions, got {array.dims}")
    if settings.axes is not None:
        return array.copy(data=fill_array(array.values, _plain(mask), settings))
    down, across = _named(array, _DOWN), _named(array, _ACROSS)
    if down is None or across is None:
        down, across = map(str, array.dims[-2:])
    others = [dim for dim in array.dims if dim not in (down, across)]
    ordered = array.transpose(*others, down, across)
    if _is_named(mask):
        mask = mask.broadcast_like(array).transpose(*ordered.dims).values
        mask = mask.reshape(-1, *ordered.shape[-2:])
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
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise DataError(f"{path} must hold one array of floats, NaN where something is missing")
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
        DataError: `path` cannot be read.
        UsageError: there is no such variable, or several and none is named.
    """
    for module in ("xarray", "netCDF4"):
        if find_spec(module) is None:
            raise MissingPackageError(
                f"NetCDF needs {module.lower()}, which is not installed: "
                f"pip install 'inpaint_ops[grids]'"
            )
    import xarray

    from .filling import fill

    try:
        # Times stay the numbers that they are.
        dataset = xarray.load_dataset(path, engine="netcdf4", decode_times=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
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


def _plain(mask: Mask) -> Mask:
    return mask.values if _is_named(mask) else mask


def _is_named(mask: Mask) -> bool:
    return type(mask).__module__.partition(".")[0] == "xarray"


def _named(array: xarray.DataArray, names: frozenset[str]) -> str | None:
    return next((str(dim) for dim in array.dims if str(dim).lower() in names), None)
