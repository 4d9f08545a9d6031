"""The small reproduction: its list of test photographs and masks, its runs, its page."""

from __future__ import annotations

import pytest

from benchmarks.reproduction import split


@pytest.mark.parametrize("name", sorted(split.MASK_SETS))
def test_the_test_masks_are_those_of_the_committed_list(name: str) -> None:
    assert split.describe_masks(split.MASK_SETS[name]) == split.load_split()["masks"][name]


def test_the_test_photographs_are_chosen_by_the_rule_and_not_trained_on() -> None:
    listed = split.load_split()
    names = [*listed["test"], *listed["train"]]
    assert len(names) == len(set(names)) == 30
    assert list(listed["test"]) == split.choose_tests(names)
    assert not set(listed["test"].values()) & set(listed["train"].values())
