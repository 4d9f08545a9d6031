"""``pytest benchmarks``: the option that chooses the plan, and what pytest-benchmark stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from benchmarks.cases import Case, all_cases
from benchmarks.children import Children, children
from benchmarks.plan import PLANS, Plan


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--plan``, as ``python -m benchmarks`` has it; here the default is the short one."""
    parser.addoption(
        "--plan", choices=sorted(PLANS), default="quick", help="which cases of the benchmarks"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Without the plugin every case would end in an unknown fixture: say what is missing."""
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("pytest-benchmark is missing: pip install -e '.[bench]'")


def _plan(config: pytest.Config) -> Plan:
    return PLANS[config.getoption("plan")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each candidate of each case, in the order of a run."""
    if "provider" in metafunc.fixturenames:
        metafunc.parametrize(
            ("case", "provider", "layout"),
            [
                pytest.param(
                    *(key := (case.id, candidate.provider, candidate.layout)),
                    id="-".join(key).replace(" ", "_"),  # -k knows no blanks
                    marks=pytest.mark.benchmark(group=case.id),
                )
                for case in all_cases(_plan(metafunc.config))
                for candidate in case.candidates
            ],
        )


@pytest.fixture(scope="session")
def cases(pytestconfig: pytest.Config) -> dict[str, Case]:
    """The plan's cases by their id."""
    return {case.id: case for case in all_cases(_plan(pytestconfig))}


@pytest.fixture(scope="session")
def weighing(pytestconfig: pytest.Config) -> Iterator[Children]:
    """Where peak memory is measured."""
    with children(_plan(pytestconfig), torch.get_num_threads()) as running:
        yield running


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """A stored result names the machine, not the host."""
    machine_info.pop("node", None)
