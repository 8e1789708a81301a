"""Which videos a folder holds, and which are named as skipped."""

from __future__ import annotations

from anthrotap_builder.utils.video_paths import find_videos


def test_folders_are_searched_for_videos_of_all_kinds(tmp_path, caplog):
    names = [
        "a.3gp",
        "b.M2TS",
        "c.mxf",
        "d.ogv",
        "e.vob",
        "f.y4m",
        "g.insv",
        "h.qt",
        "i.divx",
        "j.m2v",
        "k.asf",
        "l.3g2",
    ]
    for name in [*names, "x.movie", "notes.txt", "m.tracks.mp4", ".hidden.mp4"]:
        (tmp_path / name).touch()
    assert [path.name for path in find_videos([tmp_path])] == sorted(names)
    assert "skipped, name them to have them read: x.movie" in caplog.text


def test_folders_of_pictures_beside_videos_are_named_as_skipped(tmp_path, caplog):
    for name in ("clip10.mp4", "clip2.mp4", "clip2.jpg", "walk/1.png", "b/c/1.jpg", "out/d.tracks.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_videos([tmp_path])] == ["clip2.mp4", "clip10.mp4"]
    (warning,) = caplog.messages
    assert warning == f"{tmp_path}: skipped, name them to have them read: b/c, walk"


def test_folders_of_pictures_alone_are_videos_in_natural_order(tmp_path):
    for name in ("take10/1.png", "take9/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert [path.name for path in find_videos([tmp_path])] == ["take9", "take10"]
