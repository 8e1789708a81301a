"""Settings in YAML: numbers are numbers."""

from __future__ import annotations

import pytest

from anthrotap_hf.utils.settings import parse_settings, read_yaml


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-4", 1e-4), ("1E5", 1e5), ("-2.5e-3", -2.5e-3), (".5e1", 5.0), ("1.e2", 100.0), ("3", 3), ("0.5", 0.5)],
)
def test_numbers_with_an_exponent_are_numbers(text, number):
    value = parse_settings([f"training.learning_rate={text}"], "a=1")["training"]["learning_rate"]
    assert value == number
    assert type(value) is type(number)


@pytest.mark.parametrize("text", ["e4", "1e", "1e-4x", "a1e4", "'1e-4'"])
def test_texts_stay_texts(text):
    assert read_yaml(text) == text.strip("'")
