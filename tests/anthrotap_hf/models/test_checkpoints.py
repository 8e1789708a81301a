"""The table of the released trackers: complete, and true of what the converters take."""

from __future__ import annotations

import inspect
import re

import pytest

from anthrotap_hf.hub.licenses import MAY_BE_REDISTRIBUTED, OTHER_LICENSES
from anthrotap_hf.models import CONFIGS
from anthrotap_hf.models.checkpoints import CONVERTERS, CheckpointUnavailableError, checkpoints
from anthrotap_hf.pipelines import BUNDLED
from anthrotap_hf.utils.hub_names import is_repository

ROWS = checkpoints().values()
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@every_row
def test_a_row_says_where_its_file_is_and_how_it_is_converted(row):
    assert [row.hub, row.url, row.by_hand].count(None) == 2
    assert row.architecture in CONFIGS
    assert set(row.convert) <= set(inspect.signature(CONVERTERS.load(row.architecture)).parameters)
    assert "/" not in row.file_name
    assert row.url is None or row.address == row.url
    if row.hub is not None:
        kind = "datasets/" if row.hub.type == "dataset" else ""
        assert row.address == f"https://huggingface.co/{kind}{row.hub.repository}/resolve/main/{row.hub.file}"


@every_row
def test_a_row_states_a_license_and_the_source_of_each_figure(row):
    assert row.license in MAY_BE_REDISTRIBUTED | dict.fromkeys(OTHER_LICENSES)
    assert row.license in row.say_license() or "unknown" in row.say_license()
    assert ("non-commercial" in row.say_license()) == (row.architecture == "cotracker3")
    assert row.sha256 is None or re.fullmatch("[0-9a-f]{64}", row.sha256)
    for figure in row.figures:
        metrics = {name: value for name, value in figure.items() if name not in ("benchmark", "source", "resolution")}
        assert figure["source"]
        assert figure["benchmark"]
        assert metrics
        assert all(0 < value < 100 for value in metrics.values())


def test_names_are_no_names_of_other_trackers_and_files_are_no_names_of_others():
    assert not set(checkpoints()) & set(BUNDLED)
    assert not any(map(is_repository, checkpoints()))
    assert len({row.file_name for row in ROWS}) == len(ROWS)


def test_a_mirror_stands_for_the_buckets(monkeypatch):
    monkeypatch.setenv("ANTHROTAP_MIRROR", "http://mirror/tap/")
    assert checkpoints()["tapnextpp-512"].address == "http://mirror/tap/gresearch/tapnextpp/tapnextpp_512.ckpt"
    monkeypatch.setenv("ANTHROTAP_MIRROR", "")
    assert checkpoints()["tapnextpp-512"].address.startswith("https://storage.googleapis.com/gresearch/")


def test_errors_and_messages_name_the_mirror(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path))
    monkeypatch.setenv("ANTHROTAP_MIRROR", "/mnt/mirror")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(CheckpointUnavailableError, match=r"/mnt/mirror/.*not an address.*ANTHROTAP_MIRROR names"):
        checkpoints()["tapnextpp-512"].find_file()
    assert "downloading tapnextpp-512 from /mnt/mirror/" in caplog.text
