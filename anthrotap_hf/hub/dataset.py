"""A dataset for the Hub: shards that are whole, whose videos may be passed on, with a card of what is known of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.data.shard_reader import ShardReader, find_shards
from anthrotap_hf.hub import licenses
from anthrotap_hf.hub.cards import HERE, dataset_card
from anthrotap_hf.hub.license_files import licensed_files
from anthrotap_hf.hub.upload import Publication, PublishError

PICTURE = "tracks.jpg"
PICTURED = 3  # clips
NAMED = 5  # videos, where there is something to say of many
OURS = ("manifest.json", "videos.jsonl")


def prepare_dataset(
    folder: Path,
    repo: str = HERE,
    *,
    license: str | None = None,
    video_licenses: licenses.VideoLicenses | None = None,
    people: str | None = None,
    public: bool = False,
) -> Publication:
    """What of a folder of `anthrotap build` or `label` goes up.

    Args:
        folder: with `data` and `manifest.json`.
        repo: what the card calls it.
        license: of the labels; default: cc-by-4.0, or cc-by-nc-4.0 where a part of the pipeline is for research only.
        video_licenses: of the videos in the rows; needed if there are any.
        people: what is known of the consent of those who are seen, and where to write; needed for public videos.
        public: whether everybody will see it.

    Raises:
        PublishError: if something in it may not be passed on, is damaged, or is not known.
    """
    from anthrotap_hf.data.verify import verify

    manifest = _read_manifest(folder)
    if found := licensed_files(folder):
        raise PublishError(found[0])
    report = verify(folder, videos=False)
    if report.problems:
        raise PublishError(
            f"{report.problems[0]} ({len(report.problems)} problems in all): `anthrotap verify {folder}`"
        )
    shards = find_shards(folder / "data")
    if not report.rows:
        raise PublishError(f"{folder}: there is no row in it")
    reader = ShardReader(shards)
    videos = _videos_of(reader)
    made = list(dict.fromkeys(reader.columns(("body_model", "mesh_source", "flow"))))
    parts = list(dict.fromkeys([*licenses.of_labels(manifest["config"]), *licenses.of_rows(made)]))
    license = licenses.license_for(license, parts, "cc-by-4.0", "labels")
    table = _permitted(videos, video_licenses, built="videos" in manifest)
    if videos and public and people is None:
        raise PublishError(
            "everybody will see the people in these videos: say in --people whether they consented, and where to "
            "write to be taken out"
        )
    if not videos and video_licenses is not None:
        raise PublishError("its rows hold no videos: leave --video-licenses out")
    facts: dict[str, Any] = {"license": license, "video_licenses": table, "components": parts}
    facts |= {} if people is None else {"people": people}
    files: dict[str, Path | bytes] = {shard.relative_to(folder).as_posix(): shard for shard in shards}
    files |= {name: folder / name for name in OURS if (folder / name).is_file()}
    picture = _picture(reader)
    files |= {} if picture is None else {PICTURE: picture}
    card = dataset_card(manifest, repo, None if picture is None else PICTURE, **facts)
    files["README.md"] = card.encode()
    stays = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.iterdir())
        if path.name not in (*files, "data")
    ]
    return Publication("dataset", files, ("data/*",), stays)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise PublishError(
            f"{folder}: no dataset that `anthrotap build` or `label` wrote (there is no manifest.json in it)"
        )
    try:
        manifest = json.loads(path.read_text("utf-8"))
        dataset_card(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PublishError(
            f"{path}: {error or type(error).__name__}: damaged, or of an older version; build again"
        ) from error
    return dict(manifest)


def _videos_of(reader: ShardReader) -> list[tuple[str, str]]:
    """File name and SHA-256 of each video of which a row holds frames, in order, once each."""
    rows = reader.columns(("source_video", "source_sha256", "video"))
    return list(dict.fromkeys((name, sha256) for name, sha256, video in rows if video is not None))


def _permitted(
    videos: list[tuple[str, str]], known: licenses.VideoLicenses | None, built: bool
) -> list[dict[str, Any]]:
    """How many videos are under which license, for the card.

    Raises:
        PublishError: if a video may not be passed on, or nothing is known of it.
    """
    if not videos:
        return []
    same = "the same folder leaves the videos out, and labels nothing anew"
    without = (
        f"`anthrotap build --label-only` into {same if built else 'another folder leaves the videos out'}"
    )
    if known is None:
        raise PublishError(
            f"its rows hold {_many(len(videos))}: say in --video-licenses under which license they may be passed on "
            f"(one for all, or a .csv of video,license,attribution); {without}"
        )
    told = {video: known.of(*video) for video in videos}
    unknown = [name for (name, _), license in told.items() if license is None]
    if unknown:
        raise PublishError(f"{_some(unknown)}: no license is told of {_them(unknown)}; {without}")
    kept = [
        (name, license.license)
        for (name, _), license in told.items()
        if license is not None and not licenses.MAY_BE_PASSED_ON[license.license]
    ]
    if kept:
        names = [name for name, _ in kept]
        raise PublishError(
            f"{_some(names)}: {kept[0][1]} does not allow clips of {_them(names)} to be passed on; {without}"
        )
    counts = Counter(license for license in told.values() if license is not None)
    return [
        {"count": count, "license": license.license, "attribution": license.attribution}
        for license, count in sorted(counts.items(), key=lambda each: (-each[1], each[0].license))
    ]


def _many(count: int) -> str:
    return "a video" if count == 1 else f"{count:,} videos"


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _picture(reader: ShardReader) -> bytes | None:
    """A JPEG of some clips with their tracks; on gray where the rows hold no video. None if there is no label."""
    import cv2

    from anthrotap_hf.visualization.overlay import contact_sheet

    images = list(_pictures(reader))
    if not images:
        return None
    done, jpeg = cv2.imencode(
        ".jpg", contact_sheet(images, PICTURED, 960)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85]
    )
    assert done
    return jpeg.tobytes()


def _pictures(reader: ShardReader) -> Iterator[np.ndarray]:
    """Of the first clips with people in the first split, the frame that sees most, with tracks and trails."""
    from anthrotap_hf.visualization.overlay import draw_tracks

    given = 0
    for number in range(len(reader)):
        clip = reader.clip(number)
        tracks = clip.tracks
        if not tracks.visible.any():
            continue
        t = int(tracks.visible.sum(0).argmax())
        if clip.video is None:
            frame = np.full((tracks.height, tracks.width, 3), 60, np.uint8)
        else:
            frame = next(clip.iter_frames([t]))
        yield draw_tracks(frame, tracks, t, trail=12)
        given += 1
        if given == PICTURED:
            return
