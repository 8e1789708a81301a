"""A registry imports the object of a name when it is loaded, and lists its names in the error for an unknown one."""

import sys

import pytest

from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.registry import Registry

COLORS = Registry("conversion", {"hls": "colorsys:rgb_to_hls", "missing": "package_that_is_absent:thing"})


def test_an_object_is_imported_when_it_is_loaded() -> None:
    sys.modules.pop("colorsys", None)
    assert COLORS.names() == list(COLORS) == ["hls", "missing"]
    assert "hls" in COLORS
    assert "rgb" not in COLORS
    assert len(COLORS) == 2
    assert "colorsys" not in sys.modules
    assert COLORS.load("hls")(1.0, 1.0, 1.0) == (0.0, 1.0, 0.0)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(AnthroTapError) as raised:
        COLORS.load("rgb")
    assert str(raised.value) == "unknown conversion 'rgb'; known: hls, missing"
    assert raised.value.hint == "known: hls, missing"


def test_an_absent_package_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="package_that_is_absent"):
        COLORS.load("missing")
