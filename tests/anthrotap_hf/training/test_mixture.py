"""The mixture and the procedural source: one seed, one course of training."""

from __future__ import annotations

import logging
import time

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from anthrotap_hf.readers.base import BadClipError, DatasetError, Reader
from anthrotap_hf.readers.procedural import ProceduralClips, ProceduralSettings
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.training.mixture import MixtureComponent, MixtureDataset, TooManyBadSamplesError
from anthrotap_hf.training.samples import SampleSettings, make_sample

TINY = SampleSettings(num_frames=4, dilation=1, num_queries=4, height=16, width=16, affine=None)


class Numbered(Reader):
    """Clips whose gray level is their number; those in `bad` can't be read."""

    def __init__(self, length: int, name: str = "numbered", human: bool = True, bad: tuple[int, ...] = ()):
        self.length, self.name, self.human, self.bad = length, name, human, bad

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TrackedClip:
        if index in self.bad:
            raise BadClipError(f"clip {index} is broken\nin two lines")
        labels = np.ones((6, 4), bool)
        tracks = Tracks.from_labels(np.full((6, 4, 2), 8.0), labels, labels, height=16, width=16)
        return TrackedClip(tracks, np.full((4, 16, 16, 3), index, np.uint8), clip_id=str(index))


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        for key, value in one.items()
    )


def mixer(**changes) -> MixtureDataset:
    components = [
        MixtureComponent(Numbered(7, "people"), 1, TINY),
        MixtureComponent(ProceduralClips(ProceduralSettings(num_frames=4, height=16, width=16)), 1, TINY),
    ]
    return MixtureDataset(**{"components": components, "batch_size": 2, "num_steps": 30, "seed": 3} | changes)


def test_batches_follow_from_seed_and_step():
    whole = [*mixer().batches()]
    assert len(whole) == len(mixer()) == 30
    assert all(equal(mixer()[step], whole[step]) for step in (29, 4, 11))
    resumed = [*mixer().batches(start=20)]
    assert all(equal(a, b) for a, b in zip(resumed, whole[20:], strict=True))
    assert not equal(mixer(seed=4)[0], whole[0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_in_a_data_loader(num_workers):
    mixed = mixer(num_steps=8)
    assert mixed[0]["step"] == 0  # OpenCV has been at work before the workers fork
    loader = DataLoader(mixed, batch_size=None, sampler=range(3, 8), num_workers=num_workers)
    assert all(equal(batch, mixed[3 + i]) for i, batch in enumerate(loader))


@pytest.mark.parametrize("rest", [0, 0.05])
def test_workers_start_while_opencv_s_threads_sleep(rest):
    """A forked pool that is asked to end waits for threads that are not there."""
    image = np.zeros((900, 1200, 3), np.uint8)
    threads = cv2.getNumThreads()
    for _ in range(3):
        cv2.setNumThreads(4)
        cv2.warpAffine(image, np.eye(2, 3), (1200, 900))
        time.sleep(rest)
        loader = DataLoader(mixer(num_steps=2), batch_size=None, num_workers=2, timeout=60)
        assert len([*loader]) == 2
        assert cv2.getNumThreads() == 4
    cv2.setNumThreads(threads)


def test_weights_and_batches_of_one_source():
    mixed = mixer(
        components=[
            MixtureComponent(Numbered(5, "people"), 3, TINY),
            MixtureComponent(Numbered(5, "synthetic", human=False), 1, TINY),
        ],
        num_steps=400,
    )
    batches = [mixed[step] for step in range(400)]
    people = [batch for batch in batches if batch["source"] == "people"]
    assert 0.65 < len(people) / 400 < 0.85
    assert all(batch["human"] == (batch["source"] == "people") for batch in batches)
    names = [name for batch in people for name in batch["names"]]
    epochs = [names[start : start + 5] for start in range(0, len(names) - 5, 5)]
    assert all(sorted(epoch) == ["0", "1", "2", "3", "4"] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 20


def test_a_reader_with_a_window_is_read_in_order():
    mixed = mixer(components=[MixtureComponent(ForwardOnly(), 1, TINY)], num_steps=20)
    numbers = [int(name) for batch in mixed.batches() for name in batch["names"]]
    assert all(0 <= number - ticket < 3 for ticket, number in enumerate(numbers))
    assert equal(mixed[15], mixer(components=[MixtureComponent(ForwardOnly(), 1, TINY)], num_steps=20)[15])


class ForwardOnly(Numbered):
    """Clips that are cheap to read in order, with three of them at hand."""

    window = 3

    def __init__(self) -> None:
        super().__init__(200, "stream")


def test_bad_clips_are_reported_counted_and_replaced(caplog):
    mixed = mixer(components=[MixtureComponent(Numbered(10, bad=(2, 5)), 1, TINY)], num_steps=50)
    with caplog.at_level(logging.WARNING):
        batches = [*mixed.batches()]
    assert not {"2", "5"} & {name for batch in batches for name in batch["names"]}
    skipped = [reason for batch in batches for reason in batch["skipped"]]
    assert len(skipped) == mixed.bad == len(caplog.records)
    assert mixed.tried == 100 + mixed.bad
    assert skipped[0].startswith("numbered ")
    assert "is broken in two lines" in skipped[0]
    assert all("\n" not in reason for reason in skipped)


def test_only_bad_clips_are_an_error():
    everything = tuple(range(10))
    with pytest.raises(TooManyBadSamplesError, match="the last: numbered"):
        mixer(components=[MixtureComponent(Numbered(10, bad=everything), 1, TINY)])[0]
    with pytest.raises(TooManyBadSamplesError, match="none of 20 draws from numbered"):
        mixer(components=[MixtureComponent(Numbered(10, bad=everything), 1, TINY)], max_bad_fraction=1)[0]


@pytest.mark.parametrize(
    ("num_frames", "dilation", "longest", "way_out"),
    [
        (16, 2, 29, "--set sources.people.sample.dilation=1"),
        (16, 4, 31, "--set sources.people.sample.dilation=2"),
        (16, 2, 9, "--set sources.people.sample.num_frames=9 --set sources.people.sample.dilation=1"),
    ],
)
def test_clips_that_are_all_too_short_are_known_before_training(num_frames, dilation, longest, way_out, monkeypatch):
    settings = SampleSettings(num_frames, dilation, 4, 16, 16, affine=None)
    mixed = mixer(components=[MixtureComponent(Numbered(10), 1, settings, "people")])
    mixed.check_lengths()  # nobody knows their lengths
    monkeypatch.setattr(Numbered, "longest", lambda self: settings.span)
    mixed.check_lengths()
    monkeypatch.setattr(Numbered, "longest", lambda self: longest)
    with pytest.raises(DatasetError) as error:
        mixed.check_lengths()
    assert str(error.value) == (
        f"numbered: no clip is long enough: the longest has {longest} frames, and a sample of {num_frames} frames with "
        f"dilation {dilation} needs {settings.span}; add {way_out}"
    )


def test_too_many_bad_clips_are_an_error():
    mixed = mixer(components=[MixtureComponent(Numbered(10, bad=(0, 1, 2)), 1, TINY)], max_bad_fraction=0.1)
    with pytest.raises(TooManyBadSamplesError, match="more than 10%"):
        [*mixed.batches()]


def test_our_own_errors_are_not_swallowed():
    class Faulty(Numbered):
        def __getitem__(self, index):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mixer(components=[MixtureComponent(Faulty(3), 1, TINY)])[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"components": []}, "needs a component"),
        ({"components": [MixtureComponent(Numbered(3), 0)]}, "weights"),
        ({"components": [MixtureComponent(Numbered(3), float("inf"))]}, "weights"),
        ({"components": [MixtureComponent(Numbered(0))]}, "no clips"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_bad_fraction": 2}, "fraction"),
    ],
)
def test_impossible_mixtures(changes, reason):
    with pytest.raises(ValueError, match=reason):
        mixer(**changes)


# Procedural clips

PLAIN = ProceduralSettings(noise=0, blur=0)


def test_procedural_clips_follow_from_seed_and_index():
    one, other = ProceduralClips(seed=5)[7], ProceduralClips(seed=5)[7]
    assert np.array_equal(one.tracks.xy, other.tracks.xy)
    assert all(np.array_equal(a, b) for a, b in zip(one.iter_frames([3, 9]), other.iter_frames([3, 9]), strict=True))
    assert np.array_equal(next(one.iter_frames([9])), [*other.iter_frames([3, 9])][1])
    assert not np.array_equal(one.tracks.xy, ProceduralClips(seed=6)[7].tracks.xy)
    assert not np.array_equal(one.tracks.xy, ProceduralClips(seed=5)[8].tracks.xy)
    with pytest.raises(IndexError):
        ProceduralClips(length=5)[5]


def test_procedural_colors_stay_at_visible_points():
    """Noise, blur and light apart, a point keeps its color while it is visible, and loses it when it is occluded."""
    kept, lost = [], []
    for index in range(6):
        clip = ProceduralClips(PLAIN, seed=1)[index]
        scene_light = clip.video.__self__.light  # type: ignore[attr-defined]
        frames = np.stack([*clip.iter_frames(range(24))]).astype(np.float32) / scene_light[:, None, None, None]
        inside = ((clip.tracks.xy > 1) & (clip.tracks.xy < 127)).all((1, 2))
        for track, visible in zip(clip.tracks.xy[inside], clip.tracks.visible[inside], strict=True):
            x, y = (track - 0.5).astype(np.float32).T
            color = np.stack(
                [frames[t, int(np.rint(v)), int(np.rint(u))] for t, (u, v) in enumerate(zip(x, y, strict=True))]
            )
            if visible.all():
                kept.append(np.abs(color - np.median(color, 0)).mean())
            elif 0.3 < visible.mean() < 0.8:
                usual = np.median(color[visible], 0)
                lost.append(np.abs(color[~visible] - usual).mean())
    assert len(kept) > 300
    assert len(lost) > 30
    assert np.median(kept) < 6
    assert np.median(lost) > 4 * np.median(kept)


def test_procedural_clips_move_and_occlude():
    clips = [ProceduralClips(seed=2)[index] for index in range(20)]
    steps = np.concatenate([np.linalg.norm(np.diff(clip.tracks.xy, axis=1), axis=-1).ravel() for clip in clips])
    assert 0.5 < np.median(steps) < 10
    visible = np.concatenate([clip.tracks.visible for clip in clips])
    assert 0.5 < visible.mean() < 0.95
    back = (~visible[:, :-1] & visible[:, 1:]).any(1)
    assert back.mean() > 0.05  # some come back from behind
    assert all(clip.tracks.valid.all() for clip in clips)
    sample = make_sample(clips[0], SampleSettings(24, 1, 64, 128, 128, affine=None), np.random.default_rng(0))
    assert sample["video"].shape == (24, 128, 128, 3)


def test_procedural_settings_are_checked():
    for wrong in ({"shapes": (5, 3)}, {"noise": -1.0}, {"height": 8}, {"blur": 1.5}):
        with pytest.raises(ValueError):  # noqa: PT011 - each has its own message
            ProceduralSettings(**wrong)
