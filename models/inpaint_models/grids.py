"""Filling grids of numbers with names and coordinates: xarray and NetCDF, the extra `grids`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .arrays import Mask, Settings, fill_array

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


def _plain(mask: Mask) -> Mask:
    return mask.values if _is_named(mask) else mask


def _is_named(mask: Mask) -> bool:
    return type(mask).__module__.partition(".")[0] == "xarray"


def _named(array: xarray.DataArray, names: frozenset[str]) -> str | None:
    return next((str(dim) for dim in array.dims if str(dim).lower() in names), None)
