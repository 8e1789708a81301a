"""A build without videos, which are then put back, against the build with them."""

from __future__ import annotations

import json

import pytest

from anthrotap_builder.attach import attach_videos
from anthrotap_hf.data.verify import verify

pytestmark = pytest.mark.usefixtures("marks")


def test_attached_videos_equal_those_of_a_build_with_videos(run, make_video, tmp_path):
    videos = [make_video(f"videos/{'abcd'[number]}.mp4", shots=[*[0] * number, 30 - number, 12]) for number in range(4)]
    full, labels, out = (tmp_path / name for name in ("full", "labels", "out"))
    run(tmp_path / "videos", "full", validation=0.4, shard_bytes=20_000)
    run(tmp_path / "videos", "labels", validation=0.4, shard_bytes=20_000, label_only=True)
    assert not verify(full, processes=0).problems
    assert not verify(labels, processes=0).problems
    attach_videos(labels, videos, out)
    files = sorted((full / "data").iterdir())
    assert len(files) > 2
    assert [file.name for file in sorted((out / "data").iterdir())] == [file.name for file in files]
    for file in files:
        assert (out / "data" / file.name).read_bytes() == file.read_bytes()
    assert (out / "videos.jsonl").read_bytes() == (full / "videos.jsonl").read_bytes()
    assert json.loads((out / "manifest.json").read_text()) == json.loads((full / "manifest.json").read_text())
    assert not verify(out, processes=0).problems
