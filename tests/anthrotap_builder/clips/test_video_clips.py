"""Clips: cut where shots change, of the right frames, with flat memory."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from anthrotap_builder.clips import SkippedFrames, read_clips
from anthrotap_builder.config import ClipSettings
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.video import VideoError, iter_frames
from helpers.memory import traced_memory


def lengths(path, **settings) -> list[tuple[int, int]]:
    """(start frame, number of frames) of each clip."""
    return [(clip.start_frame, len(clip.frames)) for clip in read_clips(path, ClipSettings(**settings))]


def test_cuts_at_shot_changes(make_video):
    path = make_video(shots=[20, 30, 11])
    assert lengths(path) == [(0, 20), (20, 30), (50, 11)]


def test_clips_hold_the_frames_of_the_video(make_video):
    path = make_video("some where/a.mp4", shots=[20, 30])
    frames = np.stack([frame.image for frame in iter_frames(path)])
    clips = list(read_clips(path, ClipSettings()))
    np.testing.assert_array_equal(np.concatenate([clip.frames for clip in clips]), frames)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert [clip.clip_id for clip in clips] == [f"{digest}-000000", f"{digest}-000020"]
    assert {clip.source_video for clip in clips} == {str(path)}
    assert [clip.fps for clip in clips] == [24, 24]


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (48, [48]),
        (49, [25, 24]),
        (56, [28, 28]),
        (96, [48, 48]),
        (97, [48, 25, 24]),
        (144, [48, 48, 48]),
        (150, [48, 48, 27, 27]),
    ],
)
def test_long_shots_are_cut_evenly(make_video, num_frames, expected):
    path = make_video(shots=[num_frames], size=(64, 64))
    clips = lengths(path, clip_frames=48)
    assert [length for _, length in clips] == expected
    assert [start for start, _ in clips] == np.cumsum([0, *expected[:-1]]).tolist()


def test_sharing_does_not_lose_a_full_piece(make_video):
    assert lengths(make_video(shots=[13]), clip_frames=10) == [(0, 10)]


def test_short_pieces_are_reported(make_video, caplog):
    path = make_video(shots=[20, 5, 20])
    skipped: list[SkippedFrames] = []
    with caplog.at_level("INFO"):
        clips = list(read_clips(path, ClipSettings(), skipped.append))
    assert [clip.start_frame for clip in clips] == [0, 25]
    reason = "fewer than the 8 frames that a clip needs"
    assert skipped == [SkippedFrames(20, 5, reason)]
    assert str(skipped[0]) == f"5 frames from frame 20 on: {reason}"
    assert f"{path}: {skipped[0]}" in caplog.messages
    assert str(SkippedFrames(3, 1, reason)) == f"1 frame from frame 3 on: {reason}"
    skipped.clear()
    assert not list(read_clips(make_video(shots=[15], fps=30), ClipSettings(fps=10), skipped.append))
    assert skipped == [SkippedFrames(0, 5, f"{reason}, at 10 frames a second (clips.fps)")]


def test_a_flash_stays_in_its_clip_and_a_longer_one_does_not(make_video, moving_pattern):
    frames = moving_pattern(40, 64, 96)
    frames[20] = 255
    assert lengths(make_video(frames=frames)) == [(0, 40)]
    frames[20:28] = 255
    assert lengths(make_video(frames=frames)) == [(0, 20), (20, 8), (28, 12)]


def test_resampling(make_video):
    path = make_video(shots=[60], fps=30)
    frames = [frame.image for frame in iter_frames(path)]
    (clip,) = read_clips(path, ClipSettings(fps=10))
    assert clip.fps == 10
    np.testing.assert_array_equal(clip.frames, np.stack(frames[::3]))


def test_resampling_starts_anew_at_a_shot(make_video):
    path = make_video(shots=[31, 40], fps=30)
    assert lengths(path, fps=10) == [(0, 11), (31, 14)]


def test_resampling_does_not_change_where_shots_do(make_video):
    path = make_video(shots=[23, 31, 37], fps=30)
    full, slow = (
        [(clip.source_frames[0], clip.source_frames[-1]) for clip in read_clips(path, ClipSettings(fps=fps))]
        for fps in (None, 15)
    )
    assert full == [(0, 22), (23, 53), (54, 90)]
    assert slow == [(0, 22), (23, 53), (54, 90)]


def test_resampling_a_variable_rate_takes_the_nearest_frames(make_video):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([0.02, 0.03, 0.11], 80))
    path = make_video(shots=[80], times=(times - times[0]).tolist())
    source = list(iter_frames(path))
    times = np.array([frame.time for frame in source])
    clips = list(read_clips(path, ClipSettings(fps=12.5, clip_frames=200)))
    ticks = np.arange(0, times[-1] + 1e-9, 0.08)
    # Each frame once, also where the video is slower.
    nearest = np.unique(np.abs(times[None] - ticks[:, None]).argmin(1))
    (clip,) = clips
    np.testing.assert_array_equal(clip.frames, np.stack([source[index].image for index in nearest]))


@pytest.mark.parametrize(
    ("fps", "stored_fps", "step"),
    [
        (24, 10, 1),
        (30, 10, 1),
        (50, 10, 1),
        (60, 10, 2),
        (120, 10, 4),
        (240, 10, 8),
        (60, 30, 2),
        (60, 50, 1),
        # Six frames for a stored one at most.
        (30, 1, 5),
    ],
)
def test_labels_are_made_on_about_30_frames_a_second(make_video, fps, stored_fps, step):
    num_frames = max(int(10 * fps / stored_fps), 60)
    path = make_video(shots=[num_frames], fps=fps, size=(64, 64))
    settings = ClipSettings(fps=stored_fps, clip_frames=60)
    (stored,) = read_clips(path, settings)
    (clip,) = read_clips(path, settings, between=True)
    # The last frame of a shot stands for a stored one that would come right after it.
    *steps, last = np.diff(clip.source_frames).tolist()
    assert (set(steps), last in (step, step - 1)) == ({step}, True)
    assert num_frames - clip.source_frames[-1] <= step
    assert clip.fps == pytest.approx(fps / step, rel=0.02)
    # Which frames are stored does not depend on it.
    assert clip.stored.fps == stored.fps == stored_fps
    np.testing.assert_array_equal(clip.source_frames[clip.stored.index], stored.source_frames)
    np.testing.assert_array_equal(clip.stored_only().frames, stored.frames)
    assert (clip.clip_id, clip.stored_only().fps) == (stored.clip_id, stored.fps)
    assert stored.stored is None


def test_the_length_of_a_clip_is_that_of_its_stored_frames(make_video):
    path = make_video(shots=[100, 20, 61], fps=30, size=(64, 64))
    settings, skipped = ClipSettings(fps=10, clip_frames=10), []
    stored, clips = [list(read_clips(path, settings, skipped.append, between)) for between in (False, True)]
    assert [len(clip.stored.index) for clip in clips] == [len(clip.frames) for clip in stored] == [10] * 5
    assert [clip.start_frame for clip in clips] == [clip.start_frame for clip in stored]
    assert all(clip.stored.index[0] == 0 for clip in clips)
    # No frame is left out between clips.
    assert np.concatenate([clip.source_frames for clip in clips[:3]]).tolist() == list(range(90))
    assert [(each.start_frame, each.num_frames) for each in skipped] == 2 * [(90, 4), (100, 7), (180, 1)]


def test_no_frame_is_stored_twice_where_the_video_is_slower(make_video):
    times = [*np.arange(20) / 25, *(0.8 + np.arange(10) * 0.25)]
    path = make_video(shots=[30], times=times)
    settings = ClipSettings(fps=10, clip_frames=200)
    (stored,), (clip,) = read_clips(path, settings), read_clips(path, settings, between=True)
    assert (np.diff(stored.source_frames) > 0).all()
    assert set(range(20, 30)) <= set(stored.source_frames.tolist())
    seconds = times[stored.source_frames[-1]] - times[stored.source_frames[0]]
    assert stored.fps == pytest.approx((len(stored.source_frames) - 1) / seconds, rel=1e-3)
    np.testing.assert_array_equal(clip.source_frames, np.arange(30))
    np.testing.assert_array_equal(clip.source_frames[clip.stored.index], stored.source_frames)
    assert clip.stored.fps == stored.fps


@pytest.mark.parametrize("fps", [8, 10, 25, None])
def test_a_rate_that_varies_is_measured_by_time_stamps(make_video, fps):
    """A rate between 8 and 12 frames/s that FFmpeg guesses to be 24, as webcams and screen recorders have it."""
    times = np.cumsum([0, *np.random.default_rng(0).choice([2, 3], 47)]) / 24
    path = make_video(shots=[48], times=times, fps=24)
    (clip,) = read_clips(path, ClipSettings(fps=fps, clip_frames=200))
    chosen = clip.source_frames
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) == 48 if fps in (25, None) else len(chosen) > 30
    measured = (len(chosen) - 1) / (times[chosen[-1]] - times[chosen[0]])
    assert clip.fps == pytest.approx(measured, rel=0.03)


def test_another_size_or_shape_begins_another_clip(make_video, tmp_path):
    sizes = [(64, 128), (64, 40), (32, 64)]
    parts = [make_video(f"{h}-{w}.ts", shots=[12], size=(h, w)).read_bytes() for h, w in sizes]
    path = tmp_path / "three.ts"
    path.write_bytes(b"".join(parts))
    clips = list(read_clips(path, ClipSettings(short_side=480)))
    assert [clip.frames.shape for clip in clips] == [(12, h, w, 3) for h, w in sizes]
    assert [clip.start_frame for clip in clips] == [0, 12, 24]


def test_a_time_lapse_is_skipped_for_one_reason(make_video):
    skipped = []
    path = make_video(shots=[20], times=2 * np.arange(20))
    assert not list(read_clips(path, ClipSettings(), skipped.append))
    assert [str(each) for each in skipped] == [
        "20 frames from frame 0 on: more than 1 s from frame to frame, too long to follow points"
    ]


def test_a_folder_of_pictures_is_read_in_natural_order(tmp_path, moving_pattern):
    folder = tmp_path / "frames"
    folder.mkdir()
    images = moving_pattern(12, 64, 96)
    for number, image in enumerate(images, 1):
        Image.fromarray(image).save(folder / f"shot{number}.png")
    (clip,) = read_clips(folder, ClipSettings(fps=5))
    np.testing.assert_array_equal(clip.frames, images)
    assert clip.fps == 5
    assert clip.source_sha256 == file_sha256(folder)


def test_a_rate_above_the_video_s_keeps_all_frames(make_video, caplog):
    (clip,) = read_clips(make_video(shots=[20], fps=12), ClipSettings(fps=30))
    assert len(clip.frames) == 20
    assert clip.fps == 12
    assert "all are kept" in caplog.text


def test_a_hole_in_time_ends_a_clip(make_video):
    times = [*np.arange(20) / 25, *(5 + np.arange(20) / 25)]
    path = make_video(shots=[40], times=times)
    assert lengths(path) == [(0, 20), (20, 20)]
    assert [length for _, length in lengths(path, fps=12.5)] == [10, 10]
    assert [clip.fps for clip in read_clips(path, ClipSettings())] == pytest.approx([25, 25], rel=0.01)


def test_frames_before_damage_are_delivered(make_video):
    path = make_video(shots=[96], size=(96, 160), gop=24)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    clips = []
    with pytest.raises(VideoError, match="damaged"):
        clips += read_clips(path, ClipSettings(clip_frames=200))
    assert len(clips) == 2
    assert clips[0].start_frame == 0
    assert clips[1].start_frame >= clips[0].start_frame + len(clips[0].frames)


def test_sizes_are_even(make_video):
    path = make_video(size=(101, 181))
    (clip,) = read_clips(path, ClipSettings(short_side=64))
    assert clip.frames.shape[1:] == (64, 114, 3)
    (clip,) = read_clips(path, ClipSettings(short_side=480))
    assert clip.frames.shape[1:] == (100, 180, 3)


def test_unreadable_files(tmp_path):
    with pytest.raises(VideoError, match="no such file"):
        next(read_clips(tmp_path / "none.mp4", ClipSettings()))


def test_memory_is_flat_in_length(make_video):
    def peak(path) -> int:
        with traced_memory() as memory:
            for _ in read_clips(path, ClipSettings(clip_frames=16)):
                pass
        return memory.peak

    short, long = make_video("short.mp4", shots=[100]), make_video("long.mp4", shots=[300])
    assert peak(long) < peak(short) + 4 * 64 * 96 * 3


def test_real_shots(clips_dir):
    """None of these has a shot change; fast motion must not look like one."""
    for name, num_frames in [("squats_5fps.mp4", 50), ("selfie_wave.mp4", 58), ("corridor_two_people.mp4", 35)]:
        clips = lengths(clips_dir / name, short_side=128, clip_frames=400)
        assert clips == [(0, num_frames)], name


@pytest.mark.slow
def test_real_shots_of_moving_cameras(clips_dir):
    for name, num_frames in [("bedroom.mp4", 200), ("skatepark.mp4", 192), ("cyclist_road.mp4", 240)]:
        clips = lengths(clips_dir / name, short_side=128, clip_frames=400)
        assert clips == [(0, num_frames)], name
