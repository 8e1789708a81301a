"""Shot changes, in frames of which the truth is known: where pictures can no longer be matched, and only there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np
import pytest

from anthrotap_builder.clips.shots import REACH, number_shots
from anthrotap_hf.video import Frame, VideoError

HEIGHT, WIDTH = 72, 128


def picture(
    seed: int, height: int = HEIGHT, width: int = 4 * WIDTH, tone: float = 120, contrast: float = 45
) -> np.ndarray:
    """[height, width, 3] float32, levels: texture of several scales. All of one tone have the same colors."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for scale in (4, 10, 24):
        noise = rng.normal(size=(height // scale + 2, width // scale + 2, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return tone + contrast * total / total.std()


def pan(scene: np.ndarray, num_frames: int, speed: float, start: float = 0.0, blur: int = 1) -> np.ndarray:
    """[T, H, W, 3] uint8: a camera that turns over a scene by `speed` pixels a frame, blurred along the way."""
    scene = cv2.blur(scene, (max(1, blur), 1))
    frames = []
    for t in range(num_frames):
        shift = np.float32([[1, 0, -(start + speed * t)], [0, 1, 0]])
        frames.append(cv2.warpAffine(scene, shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT))
    return levels(frames)


def levels(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """[T, H, W, 3] uint8 of floats, with a little noise, as a camera has."""
    noise = np.random.default_rng(0).normal(0, 1, np.shape(frames))
    return np.clip(np.asarray(frames) + noise, 0, 255).astype(np.uint8)


def dancer(num_frames: int, seed: int, plain: float) -> np.ndarray:
    """[T, H, W, 3] uint8: a figure of a few textured limbs that swing fast, before a plain wall of that tone."""
    rng = np.random.default_rng(seed)
    clothes = [picture(10 * seed + k, 24, 12, tone=rng.uniform(60, 190)) for k in range(4)]
    phase, rate = rng.uniform(0, 6, 4), rng.uniform(0.25, 0.5, 4)
    frames = []
    for t in range(num_frames):
        frame = np.full((HEIGHT, WIDTH, 3), plain, np.float32)
        for k, cloth in enumerate(clothes):
            angle = 50 * np.sin(phase[k] + rate[k] * t)
            x, y = WIDTH / 2 + 10 * np.sin(0.2 * t + seed), HEIGHT / 2 + 12 * (k - 1.5)
            turn = cv2.getRotationMatrix2D((6, 12), angle, 1.0)
            turn[:, 2] += (x - 6, y - 12)
            inside = cv2.warpAffine(np.ones((24, 12), np.float32), turn, (WIDTH, HEIGHT))[..., None]
            frame = frame * (1 - inside) + inside * cv2.warpAffine(cloth, turn, (WIDTH, HEIGHT))
        frames.append(frame)
    return levels(frames)


def changes(*parts: np.ndarray, times: Sequence[float] | None = None) -> list[int]:
    """The frames that begin a shot, but the first."""
    images = np.concatenate(parts)
    times = times if times is not None else [t / 24 for t in range(len(images))]
    given = [Frame(image, times[t], t) for t, image in enumerate(images)]
    shots = list(number_shots(iter(given)))
    assert [frame for _, frame in shots] == given
    numbers = [shot for shot, _ in shots]
    assert all(b - a in (0, 1) for a, b in pairwise(numbers))
    return [t for t in range(1, len(numbers)) if numbers[t] != numbers[t - 1]]


@pytest.mark.parametrize(("speed", "blur"), [(4, 1), (20, 9), (45, 15)])
def test_a_pan_is_no_change(speed, blur):
    assert changes(pan(picture(0, width=40 * WIDTH), 24, speed, blur=blur)) == []


def test_a_pan_with_something_near_in_front_is_no_change():
    far, near = pan(picture(0), 20, 8), pan(picture(1, tone=60), 20, 24)
    posts = pan(
        np.tile(np.arange(4 * WIDTH)[None, :, None] // 16 % 3 == 0, (HEIGHT, 1, 3)).astype(np.float32) * 255, 20, 24
    )
    assert changes(np.where(posts > 128, near, far)) == []


def test_a_zoom_that_turns_is_no_change():
    scene = picture(2, 3 * HEIGHT, 3 * WIDTH)
    frames = []
    for t in range(20):
        turn = cv2.getRotationMatrix2D((1.5 * WIDTH, 1.5 * HEIGHT), 4 * t, 1.04**t)
        turn[:, 2] -= (WIDTH, HEIGHT)
        frames.append(cv2.warpAffine(scene, turn, (WIDTH, HEIGHT)))
    assert changes(levels(frames)) == []


@pytest.mark.parametrize("speed", [0, 3, 20])
def test_a_cut_is_a_change_of_like_colors_too_and_in_a_pan(speed):
    parts = [pan(picture(seed), count, speed) for seed, count in ((3, 17), (4, 3), (5, 20), (6, 9))]
    assert changes(*parts) == [17, 20, 40]


def test_a_cut_to_another_part_of_the_same_scene():
    scene = picture(7)
    assert changes(pan(scene, 15, 1), pan(scene, 15, 1, start=250)) == [15]


def test_light_that_is_switched_is_no_change():
    frames = pan(picture(8), 24, 3).astype(np.float32)
    frames[8:16] *= 0.3
    assert changes(levels(frames)) == []


@pytest.mark.parametrize("level", [0, 255])
def test_a_flash_belongs_to_the_shot_and_a_longer_one_does_not(level):
    for count, expected in ((1, []), (3, []), (4, [12, 16])):
        frames = pan(picture(9), 30, 6)
        frames[12 : 12 + count] = level
        assert changes(frames) == expected, count


def test_another_picture_for_a_moment_is_a_flash():
    frames = pan(picture(10), 30, 6)
    frames[12:14] = pan(picture(11), 2, 6)
    assert changes(frames) == []


@pytest.mark.parametrize("period", [2, 3, 4])
def test_a_strobe_light_is_no_change(period):
    frames = pan(picture(12), 40, 6)
    frames[np.arange(40) % period > 0] = 2
    assert changes(frames) == []


def test_a_cut_in_a_strobe_light():
    frames = np.concatenate([pan(picture(13), 20, 6), pan(picture(14), 20, 6)])
    frames[1::2] = 2
    # The first frame of the new picture, or the dark one before it.
    assert changes(frames) in ([19], [20])


def fade(frames: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return levels(frames * gains[:, None, None, None])


@pytest.mark.parametrize("later", [15, 16])
def test_black_between_fades_is_a_shot_of_its_own(later):
    out = np.concatenate([np.ones(20), np.linspace(1, 0, 12)])
    first, last = pan(picture(15), 32, 1), pan(picture(later), 32, 1)
    black = np.zeros((10, HEIGHT, WIDTH, 3), np.uint8)
    begin, end = changes(fade(first, out), black, fade(last, out[::-1]))
    assert 30 <= begin <= 32
    assert 42 <= end <= 44


def test_a_fade_that_stays_gray_changes_where_it_is_darkest():
    out = np.concatenate([np.ones(20), np.linspace(1, 0.15, 12)])
    (change,) = changes(fade(pan(picture(17), 32, 1), out), fade(pan(picture(18), 32, 1), out[::-1]))
    assert abs(change - 32) <= 2


@pytest.mark.parametrize(("length", "speed"), [(8, 0), (12, 0), (12, 0.4), (20, 0)])
def test_a_dissolve_changes_near_its_middle(length, speed):
    first, last = pan(picture(19), 30 + length, speed), pan(picture(20), 30 + length, speed)
    share = (np.arange(length) + 0.5)[:, None, None, None] / length
    mixed = levels((1 - share) * first[30:] + share * last[:length])
    (change,) = changes(first[:30], mixed, last[length:])
    assert abs(change - (30 + length / 2)) <= length / 2


def test_a_jump_cut_is_a_change():
    walls, person = picture(21, width=WIDTH), picture(22, 40, 24, tone=60)

    def take(start: int) -> np.ndarray:
        frames = np.tile(walls, (20, 1, 1, 1))
        for t, frame in enumerate(frames):
            frame[20:60, start + t : start + t + 24] = person
        return levels(frames)

    assert changes(take(10), take(70)) == [20]


@pytest.mark.parametrize("plain", [5, 128, 240])
def test_fast_limbs_before_a_plain_wall(plain):
    assert changes(dancer(30, 1, plain)) == []
    assert changes(dancer(20, 1, plain), dancer(20, 2, plain)) == [20]


def test_without_texture_colors_decide():
    ramp = np.arange(30)[:, None, None, None] + np.zeros((1, HEIGHT, WIDTH, 3))
    assert changes(levels(100 + ramp)) == []
    assert changes(levels(100 + ramp), levels(180 - ramp)) == [30]


def test_repeated_frames_do_not_make_steps_jumps():
    assert changes(pan(picture(23, width=20 * WIDTH), 20, 20, blur=9).repeat(2, axis=0)) == []
    assert changes(dancer(20, 3, 128).repeat(2, axis=0)) == []
    assert changes(dancer(14, 3, 128).repeat(3, axis=0)) == []


def test_what_never_matches_has_no_changes_inside():
    rng = np.random.default_rng(1)
    storm = np.stack([picture(100 + int(seed), width=WIDTH) for seed in rng.permutation(20)])
    assert changes(levels(storm)) == []
    assert changes(pan(picture(24), 15, 2), levels(storm), pan(picture(25), 15, 2)) in ([], [15, 35])


def test_a_step_in_time_is_a_change_and_nothing_is_lost_by_damage():
    times = [*np.arange(10) / 24, *(3 + np.arange(10) / 24)]
    frames = pan(picture(26), 20, 1)
    assert changes(frames, times=times) == [10]

    def damaged() -> Iterator[Frame]:
        for t, image in enumerate(frames):
            yield Frame(image, t / 24, t, after_loss=t == 7)
        raise VideoError("damaged")

    seen = []

    def read() -> None:
        for shot, frame in number_shots(damaged()):
            seen.append((shot, frame.index))

    with pytest.raises(VideoError, match="damaged"):
        read()
    assert seen == [(int(t >= 7), t) for t in range(20)]


def test_few_frames_wait():
    read = 0

    def count() -> Iterator[Frame]:
        nonlocal read
        for t, image in enumerate(pan(picture(27), 60, 1)):
            read += 1
            yield Frame(image, t / 24, t)

    for number, (_, frame) in enumerate(number_shots(count()), start=1):
        assert frame.index == number - 1
        assert read - number <= REACH


@pytest.mark.parametrize("size", [(8, 8), (16, 400), (400, 16), (1080, 1920)])
def test_any_size(size):
    a, b = (np.clip(picture(seed, *size), 0, 255).astype(np.uint8) for seed in (28, 29))
    assert changes(np.stack([a] * 4), np.stack([b] * 4)) == [4]
