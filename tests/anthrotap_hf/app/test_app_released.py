"""Which released trackers the page offers, and what it says of them."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio", reason="needs anthrotap[app]")

from anthrotap_hf.app.page import AppSettings
from anthrotap_hf.app.released import about_tracker, are_here, license_sentences, offered_trackers
from anthrotap_hf.models.checkpoints import CONVERSION, checkpoints


def test_the_page_lists_size_license_and_whether_they_are_here(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path))
    labels = {name: label for label, name in offered_trackers(AppSettings())}
    assert labels["alltracker-tiny"] == "AllTracker tiny (25 MB; mit)"
    assert labels["tapnextpp"] == "TAPNext++ (unknown size; apache-2.0)"
    by_hand = {name for name, row in checkpoints().items() if row.by_hand}
    assert labels.keys() == checkpoints().keys() - by_hand
    assert offered_trackers(AppSettings(any_host=True)) == []
    model = checkpoints()["cotracker3-online"].model_folder
    model.mkdir(parents=True)
    (model / "provenance.json").write_text(f'{{"conversion": {CONVERSION}}}')
    checkpoints()["anthro-tapnext"].folder.mkdir()
    (checkpoints()["anthro-tapnext"].folder / "anthro-tapnext.npz").touch()
    assert offered_trackers(AppSettings(any_host=True)) == [
        ("Anthro-TAPNext (its file is on this machine; no license stated)", "anthro-tapnext"),
        ("CoTracker3, online (on this machine; cc-by-nc-4.0)", "cotracker3-online"),
    ]
    names = ["locotrack-tiny", "cotracker3-online", "tapir"]
    assert are_here(names) == {"locotrack-tiny": True, "cotracker3-online": True, "tapir": False}
    assert license_sentences(["tapir"]) == ["TAPIR: its license is apache-2.0 (google-deepmind/tapnet)."]
    assert about_tracker("") == "It is downloaded and converted once, when it is first used."
    first = "TAPIR: its license is apache-2.0 (google-deepmind/tapnet)."
    assert about_tracker("tapir") == f"{first} It is downloaded (124 MB) and converted once, when it is first used."
    assert about_tracker("cotracker3-online").endswith("(facebookresearch/co-tracker). It is on this machine.")
    assert "Its file is on this machine" in about_tracker("anthro-tapnext")
