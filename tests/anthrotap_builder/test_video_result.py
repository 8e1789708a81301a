"""What the result of a video says of its people and its motion."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from anthrotap_builder.clips import SkippedFrames
from anthrotap_builder.detection.labeled_motion import LabeledMotion
from anthrotap_builder.video_result import UnlabeledPerson, VideoResult


def test_people_are_counted_once_and_their_reasons_by_clip():
    result = VideoResult("a.mp4", rows=2)
    result.see(0, 0, 48, None)
    result.see(4, 0, 48, "hidden")
    result.see(0, 48, 30, "no label agrees with optical flow")
    result.see(4, 48, 30, None)
    result.see(7, 48, 30, "hidden")
    assert result.people == [0, 4, 7]
    assert result.labeled_people == [0, 4]
    totals = result.totals()
    assert (totals["people"], totals["people_found"]) == (2, 3)
    assert [str(person) for person in result.unlabeled] == [
        "person 4, 48 frames from frame 0 on: no label: hidden",
        "person 0, 30 frames from frame 48 on: no label: no label agrees with optical flow",
        "person 7, 30 frames from frame 48 on: no label: hidden",
    ]


@pytest.mark.parametrize(
    ("moving", "unlabeled", "rows", "warns"),
    [(100, 61, 1, True), (100, 60, 1, False), (20, 20, 1, False), (0, 0, 1, False), (100, 90, 0, False)],
)
def test_a_video_whose_moving_area_mostly_has_no_label_is_to_be_looked_at(moving, unlabeled, rows, warns):
    result = VideoResult("a.mp4", rows=rows, motion=LabeledMotion(moving, unlabeled))
    for overlay, look in (
        ("a.tracks.mp4", "look at a.tracks.mp4"),
        (None, "`anthrotap label` draws an overlay of it to look at"),
    ):
        result.overlay = overlay
        expected = [f"{unlabeled} % of the area that moves has no label near: {look}"] if warns else []
        assert result.warnings == expected


def test_a_result_comes_back_from_json():
    result = VideoResult("a.mp4", "a.mp4", rows=3, motion=LabeledMotion(9, 2))
    result.skipped.append(SkippedFrames(5, 3, "no person was found"))
    result.unlabeled.append(UnlabeledPerson(2, 5, 3, "hidden"))
    again = VideoResult.from_json(json.loads(json.dumps(result.as_json())))
    assert again == result
    assert asdict(again) == asdict(result)


def test_a_result_of_an_older_version_is_read():
    """Of one that knew only names, rows and frames."""
    again = VideoResult.from_json({"video": "a.mp4", "rows": 2, "frames": 96})
    assert (again.people, again.unlabeled, again.skipped, again.overlay) == ([], [], [], None)
    assert again == VideoResult("a.mp4", rows=2, frames=96)
