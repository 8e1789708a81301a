"""COLMAP: a database of keypoints and matches, as its own feature matching leaves it, and the images they lie on."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from anthrotap_hf.export.base import Format, exported_frames
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.utils.atomic_files import atomic_dir

DATABASE = "database.db"
IMAGES = "images"
# The camera model's number in COLMAP's sensor/models.h; its parameters are f, cx, cy, k.
SIMPLE_RADIAL = 2
# As a multiple of the longer side: what COLMAP guesses of images that say nothing.
FOCAL_LENGTH = 1.2
MAX_IMAGES = 2147483647
# The tables that COLMAP 3.12 or older and 4 share; what newer versions add, they make when they open the file.
TABLES = f"""
CREATE TABLE cameras (
    camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, params BLOB, prior_focal_length INTEGER NOT NULL);
CREATE TABLE images (
    image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL UNIQUE, camera_id INTEGER NOT NULL,
    CONSTRAINT image_id_check CHECK(image_id >= 0 and image_id < {MAX_IMAGES}),
    FOREIGN KEY(camera_id) REFERENCES cameras(camera_id));
CREATE TABLE keypoints (
    image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB,
    FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE);
CREATE TABLE descriptors (
    image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB,
    FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE);
CREATE TABLE matches (
    pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB);
CREATE TABLE two_view_geometries (
    pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB,
    config INTEGER NOT NULL, F BLOB, E BLOB, H BLOB, qvec BLOB, tvec BLOB);
"""


def write_colmap(clip: TrackedClip, path: Path) -> None:
    """Write a folder with `database.db` and, of a video, `images/000000.jpg` and so on: image t + 1 is frame t.

    Then, with COLMAP 3.13 or later:

        colmap geometric_verifier --database_path DIR/database.db
        colmap mapper --database_path DIR/database.db --image_path DIR/images --output_path DIR/sparse

    - A keypoint is a visible label in the frame: x and y in pixels whose first center is (0.5, 0.5), as here, so
      nothing is converted (COLMAP, doc/database.rst). Occluded and invalid labels are not written: COLMAP has no
      keypoint that is not in the image. Scale is 1, orientation 0.
    - Keypoints of an image are in the order of the tracks. Images 1, 2, 4, 8, ... frames apart are matched, as COLMAP's
      own sequential matcher does it (`quadratic_overlap`), and wherever a track reappears after a gap.
    - One camera, SIMPLE_RADIAL, a guess at its focal length: 1.2 times the longer side, not taken for known.

    Tracks on people bend: what does not fit one rigid motion between two images is what verification throws out. The
    frame rate is not written.

    Raises:
        VideoError: as `exported_frames`.
        ValueError: if `path` is a file, or a folder with other things in it than an earlier export.
    """
    tracks = clip.tracks
    if path.is_dir():
        others = sorted({file.name for file in path.iterdir()} - {DATABASE, IMAGES})
        if others:
            raise ValueError(f"{path}: holds {others[0]}, which is of no export; name another folder")
    elif path.exists():
        raise ValueError(f"{path}: is a file; COLMAP's export is a folder")
    inside = ((tracks.xy >= 0) & (tracks.xy <= [tracks.width, tracks.height])).all(-1)
    visible = tracks.visible & inside
    with atomic_dir(path) as tmp_path:
        with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
            database.executescript(TABLES)
            _write_images(database, tracks, visible)
            _write_matches(database, visible)
        if clip.video is not None:
            (tmp_path / IMAGES).mkdir()
            for t, frame in enumerate(exported_frames(clip)):
                Image.fromarray(frame).save(tmp_path / IMAGES / _name(t), quality=95)


def _name(t: int) -> str:
    return f"{t:06d}.jpg"


def _write_images(database: sqlite3.Connection, tracks: Tracks, visible: np.ndarray) -> None:
    width, height = tracks.width, tracks.height
    params = np.array([FOCAL_LENGTH * max(width, height), width / 2, height / 2, 0], "<f8")
    database.execute("INSERT INTO cameras VALUES (1, ?, ?, ?, ?, 0)", (SIMPLE_RADIAL, width, height, params.tobytes()))
    for t in range(tracks.num_frames):
        xy = tracks.xy[visible[:, t], t]
        scale_and_orientation = np.tile(np.array([1, 0], "<f4"), (len(xy), 1))
        keypoints = np.concatenate([xy.astype("<f4"), scale_and_orientation], axis=1)
        database.execute("INSERT INTO images VALUES (?, ?, 1)", (t + 1, _name(t)))
        database.execute("INSERT INTO keypoints VALUES (?, ?, 4, ?)", (t + 1, len(keypoints), keypoints.tobytes()))
        # Matching of any kind asks for a row; a track has no descriptor, so it is empty.
        database.execute("INSERT INTO descriptors VALUES (?, 0, 128, ?)", (t + 1, b""))


def _write_matches(database: sqlite3.Connection, visible: np.ndarray) -> None:
    # [N, T], the number of each keypoint in its image.
    number = np.cumsum(visible, axis=0) - 1
    for (first, second), both in sorted(_pairs(visible).items()):
        matches = np.stack([number[both, first], number[both, second]], axis=1).astype("<u4")
        database.execute(
            "INSERT INTO matches VALUES (?, ?, 2, ?)",
            ((first + 1) * MAX_IMAGES + second + 1, len(matches), matches.tobytes()),
        )


def _pairs(visible: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Return the frames to match, with the tracks [n] that are visible in both."""
    num_frames = visible.shape[1]
    pairs: dict[tuple[int, int], np.ndarray] = {}
    for first, second in _frames_apart(num_frames):
        both = np.flatnonzero(visible[:, first] & visible[:, second])
        if len(both):
            pairs[first, second] = both
    gaps: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for n, row in enumerate(visible):
        for first, second in pairwise(np.flatnonzero(row).tolist()):
            if (first, second) not in pairs:
                gaps[first, second].append(n)
    return pairs | {pair: np.array(numbers) for pair, numbers in gaps.items()}


def _frames_apart(num_frames: int) -> Iterable[tuple[int, int]]:
    lag = 1
    while lag < num_frames:
        yield from ((first, first + lag) for first in range(num_frames - lag))
        lag *= 2


FORMAT = Format(
    write_colmap,
    "",
    "colmap geometric_verifier, then colmap mapper",
    video="gives images/, which COLMAP wants for colors and dense models",
    program="COLMAP",
    use="Unpack it, then run colmap geometric_verifier and colmap mapper on database.db and images/.",
)
