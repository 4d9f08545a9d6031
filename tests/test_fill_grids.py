"""Grids: NaN is missing, any range of values, around the globe, and files of NumPy and NetCDF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import torch
import xarray
from inpaint_cli import main
from inpaint_models import fill, grids
from inpaint_models.errors import MissingPackageError
from numpy.typing import NDArray
from safetensors.torch import save_file
from test_fill import trained
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")

Grid = NDArray[Any]


def _field(*shape: int, dtype: str = "float64") -> Grid:
    """Temperatures in Kelvin, with gaps."""
    dice = np.random.default_rng(4)
    field = dice.normal(280, 15, shape).astype(dtype)
    field[..., 5:9, 11:19] = np.nan
    field[..., 20:22, 3:5] = np.nan
    return field


@pytest.fixture
def net() -> nn.Module:
    """One channel in, one out."""
    return trained(in_channels=1)


@pytest.mark.parametrize("dtype", ["float64", "float32", ">f8", "float16"])
def test_nan_is_filled_and_nothing_else_is_touched(net: nn.Module, dtype: str) -> None:
    field = _field(32, 48, dtype=dtype)
    missing, before = np.isnan(field), field.copy()
    filled = fill(field, model=net)
    assert filled.dtype == field.dtype
    assert filled[~missing].tobytes() == field[~missing].tobytes()
    assert np.isfinite(filled).all()
    assert filled[missing].min() >= np.nanmin(field)
    assert filled[missing].max() <= np.nanmax(field)
    assert filled[missing].std() > 0
    assert np.array_equal(field, before, equal_nan=True)


def test_units_change_nothing(net: nn.Module) -> None:
    """By an affine map the network sees the same."""
    field = _field(32, 48)
    filled = fill(field, model=net)
    np.testing.assert_allclose(fill(field * 1.8 - 459.67, model=net), filled * 1.8 - 459.67, 1e-5)


def test_a_given_range_is_what_the_network_sees_as_0_and_1(net: nn.Module) -> None:
    field = _field(32, 48)
    missing = np.isnan(field)
    filled = fill(field, model=net, value_range=(200, 360))
    unit = (field - 200) / 160
    expected = fill(np.where(missing, 0, unit), ~missing, model=net)
    np.testing.assert_allclose(filled, expected * 160 + 200, rtol=1e-12)
    with pytest.raises(ValueError, match="image must hold values from 0 to 100 where it is known"):
        fill(field, model=net, value_range=(0, 100))


def test_a_constant_field_stays_constant(net: nn.Module) -> None:
    field = np.where(np.isnan(_field(32, 48)), np.nan, 7.5)
    assert (fill(field, model=net) == 7.5).all()


def test_times_are_filled_each_by_itself(net: nn.Module) -> None:
    fields = _field(3, 32, 48)
    fields[1, 14, 30] = np.nan
    fields[2] *= 5
    filled = fill(fields, model=net, axes="NHW")
    for one, alone in zip(filled, fields, strict=True):
        assert np.array_equal(one, fill(alone, model=net))
    fields[1] = np.nan
    with pytest.raises(ValueError, match="image 1 has no known pixel"):
        fill(fields, model=net, axes="NHW")


def test_channels_have_each_their_range_and_their_gaps() -> None:
    """A pixel is a hole where any channel lacks it, but what the others know there stays."""
    both = np.stack([_field(32, 48), _field(32, 48) * 1e4])
    both[1, 25, 30] = np.nan
    filled = fill(both, model=trained(in_channels=2), axes="CHW")
    known = ~np.isnan(both)
    assert np.array_equal(filled[known], both[known])
    assert known[0, 25, 30]
    for channel, values in zip(filled, both, strict=True):
        assert np.nanmin(values) <= channel.min() <= channel.max() <= np.nanmax(values)


def test_infinity_is_refused(net: nn.Module) -> None:
    field = _field(32, 48)
    field[0, 0] = np.inf
    with pytest.raises(ValueError, match="image must be finite where it is known"):
        fill(field, model=net)


class TestWrap:
    @pytest.mark.parametrize("columns", [8, 40, 72])
    def test_turning_the_globe_and_filling_commute(self, net: nn.Module, columns: int) -> None:
        """Turned by a multiple of the deepest map's step, on a globe of such a width."""
        field = _field(40, 96)
        field[10:14, :6] = field[10:14, -5:] = np.nan
        turned = fill(np.roll(field, columns, 1), model=net, wrap=True)
        filled = fill(field, model=net, wrap=True)
        np.testing.assert_allclose(turned, np.roll(filled, columns, 1), rtol=1e-6)
        known = ~np.isnan(field)
        assert np.array_equal(filled[known], field[known])

    def test_without_it_the_edges_are_far_apart(self, net: nn.Module) -> None:
        field = _field(40, 96)
        field[10:14, :6] = field[10:14, -5:] = np.nan
        flat, round_ = fill(field, model=net), fill(field, model=net, wrap=True)
        middle = slice(30, 60)
        np.testing.assert_allclose(flat[:, middle], round_[:, middle])
        assert np.abs(flat - round_)[10:14, 0].max() > 0.1

    def test_a_globe_smaller_than_what_the_network_looks_at(self) -> None:
        net = trained(in_channels=1, levels=5)
        field = _field(24, 32)
        turned = fill(np.roll(field, 16, 1), model=net, wrap=True)
        assert np.isfinite(turned).all()
        known = ~np.isnan(field)
        assert np.array_equal(np.roll(turned, -16, 1)[known], field[known])

    def test_networks_that_see_pictures_whole_see_half_a_globe_more(self) -> None:
        net, widths = trained("rn_net", in_channels=1), list[int]()
        net.register_forward_pre_hook(lambda module, inputs: widths.append(inputs[0].shape[3]))
        assert np.isfinite(fill(_field(40, 96), model=net, wrap=True)).all()
        assert widths == [64 + 96 + 48]


def _dataset() -> xarray.Dataset:
    field = _field(2, 32, 48, dtype="float32")
    return xarray.Dataset(
        {
            "tas": (("time", "lat", "lon"), field, {"units": "K", "long_name": "temperature"}),
            "orog": (("lat", "lon"), np.ones((32, 48))),
        },
        {
            "time": ("time", [0, 31], {"units": "days since 1850-01-01", "calendar": "360_day"}),
            "lat": ("lat", np.linspace(-77.5, 77.5, 32)),
            "lon": ("lon", np.arange(48) * 7.5, {"units": "degrees_east"}),
        },
        {"title": "a test"},
    )


def test_a_data_array_keeps_all_that_it_says(net: nn.Module) -> None:
    field = _dataset()["tas"]
    filled = fill(field, model=net)
    expected = fill(field.values, model=net, axes="NHW")
    assert isinstance(filled, xarray.DataArray)
    xarray.testing.assert_identical(filled, field.copy(data=expected))
    assert field.isnull().any()


@pytest.mark.parametrize("order", [("lon", "lat", "time"), ("lat", "time", "lon")])
def test_latitude_and_longitude_are_found_in_any_order(
    net: nn.Module, order: Sequence[str]
) -> None:
    field = _dataset()["tas"]
    filled = fill(field.transpose(*order), model=net, wrap=True)
    assert filled.dims == tuple(order)
    xarray.testing.assert_identical(
        filled.transpose(*field.dims), fill(field, model=net, wrap=True)
    )


def test_unnamed_dimensions_end_with_height_and_width(net: nn.Module) -> None:
    field = xarray.DataArray(_field(2, 32, 48), dims=("a", "b", "c"))
    assert np.array_equal(fill(field, model=net).values, fill(field.values, model=net, axes="NHW"))
    turned = field.transpose("c", "b", "a")
    said = fill(turned, model=net, axes="WHN")
    assert np.array_equal(said.values, fill(turned.values, model=net, axes="WHN"))
    with pytest.raises(ValueError, match="image must have at least two dimensions"):
        fill(field[0, 0], model=net)


def test_a_mask_may_have_names_too(net: nn.Module) -> None:
    field = _dataset()["tas"].fillna(280)
    known = xarray.ones_like(field[0], bool)
    known[3:6, 30:40] = False
    expected = fill(field, known.values, model=net, value_range="known")
    for mask in (known, known.transpose("lon", "lat"), known.broadcast_like(field)):
        filled = fill(field, mask, model=net, value_range="known")
        xarray.testing.assert_identical(filled, expected)
    said = fill(field, known.broadcast_like(field), model=net, value_range="known", axes="NHW")
    xarray.testing.assert_identical(said, expected)


@pytest.mark.parametrize("axes", [None, "NHW"])
class TestMasksOfOtherOrder:
    """A mask belongs to an image by names and labels, not by positions."""

    def _known(self) -> xarray.DataArray:
        known = xarray.ones_like(_dataset()["tas"], bool)
        known[:, 3:6, 30:40] = False
        known[1, 20:23, 5:9] = False
        return known

    def test_coordinates_that_run_the_other_way(self, net: nn.Module, axes: str | None) -> None:
        field, known = _dataset()["tas"].fillna(280), self._known()
        expected = fill(field, known.values, model=net, value_range="known", axes="NHW")
        for mask in (known[:, ::-1], known[:, :, ::-1], known[::-1, ::-1].drop_vars("lon")):
            filled = fill(field, mask, model=net, value_range="known", axes=axes)
            xarray.testing.assert_identical(filled, expected)
        # From north to south, as many models have it.
        field = field.isel(lat=slice(None, None, -1))
        expected = fill(field, known.values[:, ::-1], model=net, value_range="known", axes="NHW")
        filled = fill(field, known, model=net, value_range="known", axes=axes)
        xarray.testing.assert_identical(filled, expected)

    def test_dimensions_in_another_order(self, net: nn.Module, axes: str | None) -> None:
        field, known = _dataset()["tas"].fillna(280), self._known()
        expected = fill(field, known.values, model=net, value_range="known", axes="NHW")
        for mask in (known.transpose("lon", "time", "lat"), known.transpose("lon", "lat", "time")):
            filled = fill(field, mask, model=net, value_range="known", axes=axes)
            xarray.testing.assert_identical(filled, expected)
        turned = field.transpose("lon", "time", "lat")
        filled = fill(turned, known, model=net, value_range="known", axes=axes and "WNH")
        xarray.testing.assert_identical(filled.transpose(*field.dims), expected)

    def test_what_does_not_match_is_refused(self, net: nn.Module, axes: str | None) -> None:
        field, known = _dataset()["tas"].fillna(280), self._known()
        refused = {
            "coordinate 'lat', in any order, got other labels": (
                known.assign_coords(lat=known["lat"] + 1e-6),
                known.assign_coords(lat=np.zeros(32)),
            ),
            "got 'y'": (known.rename(lat="y"), known[0].expand_dims("y")),
            "size along 'lon', 48, got 47": (known[:, :, 1:],),
        }
        for said, masks in refused.items():
            for mask in masks:
                with pytest.raises(ValueError, match=said):
                    fill(field, mask, model=net, value_range="known", axes=axes)


def test_a_mask_with_names_goes_with_channels() -> None:
    net = trained(in_channels=2)
    field = xarray.DataArray(_field(2, 32, 32), dims=("band", "y", "x")).fillna(280)
    known = xarray.ones_like(field[0], bool)
    known[3:6, 20:30] = False
    expected = fill(field, known.values, model=net, value_range="known", axes="CHW")
    for mask in (known, known.T):
        filled = fill(field, mask, model=net, value_range="known", axes="CHW")
        xarray.testing.assert_identical(filled, expected)


@pytest.fixture
def model(tmp_path: Path, net: nn.Module) -> str:
    path = tmp_path / "net.safetensors"
    options = '{"width": 4, "levels": 3, "in_channels": 1}'
    save_file(net.state_dict(), path, {"model": "pconv_unet", "options": options})
    return str(path)


def _run(*words: object) -> int:
    return main(["fill", *map(str, words)])


def test_a_netcdf_file_is_filled(
    tmp_path: Path, net: nn.Module, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything else in it is copied, and times are left as the numbers that they are."""
    path, out = tmp_path / "field.nc", tmp_path / "filled.nc"
    _dataset().to_netcdf(path)
    before = path.read_bytes()
    words = (path, "-o", out, "--variable", "tas", "--wrap", "--model", model)
    assert _run(*words) == 0
    assert capsys.readouterr().out == f"{out}: 72 values filled\n"
    source = xarray.load_dataset(path, decode_times=False)
    expected = source.assign(tas=fill(source["tas"], model=net, wrap=True))
    xarray.testing.assert_identical(xarray.load_dataset(out, decode_times=False), expected)
    assert path.read_bytes() == before
    assert _run(*words) == 2
    assert "is there already" in capsys.readouterr().err


def test_packed_values_stay_as_they_are_packed(tmp_path: Path, net: nn.Module, model: str) -> None:
    path, out = tmp_path / "field.nc", tmp_path / "filled.nc"
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768}
    _dataset()[["tas"]].to_netcdf(path, encoding={"tas": packing})
    assert _run(path, "-o", out, "--model", model) == 0
    raw, filled = (xarray.load_dataset(x, mask_and_scale=False)["tas"] for x in (path, out))
    assert filled.dtype == np.int16
    known = raw.values != -32768
    assert np.array_equal(filled.values[known], raw.values[known])
    assert (filled.values != -32768).all()


def test_no_variable_gets_a_fill_value_that_it_had_not(tmp_path: Path, model: str) -> None:
    path, out = tmp_path / "field.nc", tmp_path / "filled.nc"
    without: dict[str, Any] = {"_FillValue": None}
    encoding = {"lat": without, "lon": without, "orog": {"_FillValue": -1.0}}
    _dataset().to_netcdf(path, encoding=encoding)
    assert _run(path, "-o", out, "--variable", "tas", "--model", model) == 0
    before, after = (xarray.load_dataset(x, decode_cf=False) for x in (path, out))
    for name, variable in before.variables.items():
        np.testing.assert_equal(after[name].attrs, variable.attrs)


def test_files_that_could_not_be_copied_whole_are_refused(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "field.nc", tmp_path / "filled.nc"
    words = (path, "-o", out, "--variable", "tas", "--model", model)
    _dataset().to_netcdf(path)
    with netCDF4.Dataset(path, "a") as file:
        other = file.createVariable("other", "f4", ("lat", "lon"), fill_value=-1)
        other.missing_value = np.float32(-2)
    assert _run(*words) == 1
    said = "field.nc could not be written again: Variable 'other' has conflicting _FillValue"
    assert said in capsys.readouterr().err
    _dataset().to_netcdf(path)
    for group in ("winter", "summer"):
        _dataset().to_netcdf(path, group=group, mode="a")
    assert _run(*words) == 1
    assert "field.nc has the groups winter, summer: take one" in capsys.readouterr().err
    assert not out.exists()


def test_an_array_file_is_filled(tmp_path: Path, net: nn.Module, model: str) -> None:
    path, out = tmp_path / "field.npy", tmp_path / "filled.npy"
    np.save(path, _field(2, 32, 48))
    assert _run(path, "-o", out, "--axes", "NHW", "--model", model) == 0
    assert np.array_equal(np.load(out), fill(_field(2, 32, 48), model=net, axes="NHW"))


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (
            ("field.nc", "-o", "x.nc", "--variable", "pr"),
            "unknown field 'pr' (known: orog, tas)",
            2,
        ),
        (("field.nc", "-o", "x.nc"), "has the fields tas, orog: give --variable", 2),
        (("field.nc", "-o", "x.npy"), "field.nc is written as .nc, got '.npy'", 2),
        (("field.nc", "-o", "x.nc", "--axes", "NHW"), "--axes is for .npy files", 2),
        (("field.nc", "mask.png", "-o", "x.nc"), "in grids NaN is missing, give no MASK", 2),
        (("field.npy", "-o", "x.npy", "--variable", "a"), "--variable is for NetCDF files", 2),
        (("field.npy", "-o", "x.npy"), "image must have shape (H, W)", 1),
        (("broken.nc", "-o", "x.nc"), "broken.nc cannot be read", 1),
        (("broken.npy", "-o", "x.npy"), "broken.npy cannot be read", 1),
        (("whole.npy", "-o", "x.npy"), "must hold one array of floats", 1),
        (("long.npy", "-o", "x.npy"), "must hold one array of floats of up to 64 bits", 1),
    ],
)
def test_grids_that_cannot_be_filled(
    words: Sequence[str],
    said: str,
    code: int,
    tmp_path: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _dataset().to_netcdf("field.nc")
    np.save("field.npy", _field(2, 32, 48))
    np.save("whole.npy", np.ones((4, 4), int))
    np.save("long.npy", np.ones((4, 4), np.longdouble))
    for name in ("broken.nc", "broken.npy", "mask.png"):
        Path(name).write_bytes(b"x")
    assert _run(*words, "--model", model) == code
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*x.n*"))


def test_without_the_extra_netcdf_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grids, "find_spec", lambda name: None if name == "netCDF4" else name)
    with pytest.raises(MissingPackageError, match=r"needs netcdf4.*inpaint_ops\[grids\]"):
        grids.fill_netcdf(tmp_path / "a.nc", tmp_path / "b.nc", None)


def test_a_grid_of_one_channel_goes_into_a_network_of_three() -> None:
    """As a grey picture does."""
    field = torch.rand(1, 40, 48)
    field[:, 10:14, 10:14] = torch.nan
    known = ~field[0].isnan()
    filled = fill(field, model=trained(), value_range=(0, 1))
    expected = fill(field.nan_to_num(0), known, model=trained())
    torch.testing.assert_close(filled, expected, rtol=0, atol=0)
