from __future__ import annotations

import importlib.util

import pytest

from molmo2_ground.errors import MissingExtraError
from molmo2_ground.masks.sam2_package import load_sam2_package


def test_without_the_package_its_extra_is_named() -> None:
    if importlib.util.find_spec("sam2") is not None:
        return  # tests/parity/test_sam2_package.py runs it
    with pytest.raises(MissingExtraError, match=r"pip install 'molmo2-ground\[sam2\]'"):
        load_sam2_package("sam2.1_hiera_tiny.pt")


def test_wrong_arguments_are_told_first() -> None:
    with pytest.raises(ValueError, match="policy is one of"):
        load_sam2_package("sam2.1_hiera_tiny.pt", policy="all")  # type: ignore[arg-type]
