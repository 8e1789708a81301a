"""Folders that say they are trackers: one line each, no code is run, no memory is taken for absurd sizes."""

from __future__ import annotations

import json
import shutil
import struct

import pytest

from anthrotap_hf.pipelines import DEFAULT_MODEL, TrackerError, load_tracker

EVIL = {"auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}


@pytest.mark.parametrize(
    ("config", "weights", "reason"),
    [
        ('{"a":' * 100_000, None, "nested too deeply"),
        ("null", None, "NoneType"),
        ({"hidden_size": 10**9}, None, "hidden_size is 1000000000, and 16777216 is the limit"),
        ({"num_hidden_layers": 10**6}, None, "num_hidden_layers is 1000000, and 256 is the limit"),
        ({"stage_channels": [24444, 32, 48, 48]}, None, "a network of [0-9]+ MB, and the file of weights has 3.1 MB"),
        ({"num_attention_heads": 0}, None, "by zero"),
        ({"model_type": "evil", **EVIL}, None, "custom code"),
        ({}, struct.pack("<Q", 2**63), "header"),
        ({}, struct.pack("<Q", 9) + b"[" * 9, "header"),
        ({}, b"", "header too small"),
        ({}, struct.pack("<Q", 2) + b"{}", "not those of the locotrack of its config.json: they lack .* and .* more"),
        (
            {"hidden_size": 64},
            None,
            r"of another size than its .*: .* is \[128\], not \[64\], and .* more",
        ),
        ({"num_hidden_layers": 1}, None, r"they have besides transformer\.layers\.1\..*; take both files from one"),
    ],
)
def test_a_hostile_tracker_ends_with_one_line(tmp_path, config, weights, reason):
    folder = shutil.copytree(DEFAULT_MODEL, tmp_path / "tracker")
    given = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(given | config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(TrackerError, match=reason) as error:
        load_tracker(str(folder))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_weights_in_a_pickle_are_not_read(tmp_path):
    folder = shutil.copytree(DEFAULT_MODEL, tmp_path / "tracker")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(TrackerError, match=r"model\.safetensors"):
        load_tracker(str(folder))
