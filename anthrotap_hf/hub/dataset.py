"""A dataset for the Hub: intact shards, whose videos may be redistributed, with a card and a picture."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.data.manifest import ManifestError, read_manifest
from anthrotap_hf.data.shard_reader import ShardReader, find_shards
from anthrotap_hf.hub.cards import THIS_FOLDER, DatasetTerms, dataset_card
from anthrotap_hf.hub.errors import PublishError
from anthrotap_hf.hub.license_files import check_no_licensed_files
from anthrotap_hf.hub.licenses import (
    MAY_BE_REDISTRIBUTED,
    ROW_COLUMNS,
    VideoLicense,
    VideoLicenses,
    choose_license,
    components_of_config,
    components_of_rows,
)
from anthrotap_hf.hub.upload import Publication, other_files
from anthrotap_hf.schema import MANIFEST, VIDEO_LIST

PICTURE = "tracks.jpg"
PICTURE_CLIPS = 3
PICTURE_WIDTH = 960  # pixels
NAMED_VIDEOS = 5  # named in a message about many
METADATA = (MANIFEST, VIDEO_LIST)


def prepare_dataset(
    folder: Path,
    repo: str = THIS_FOLDER,
    *,
    license: str | None = None,
    video_licenses: VideoLicenses | None = None,
    people: str | None = None,
    public: bool = False,
) -> Publication:
    """Collect what is published of a folder of `anthrotap build` or `label`.

    Args:
        folder: The folder, with `data` and `manifest.json`.
        repo: The repository's name, for the card.
        license: The license of the labels; None for cc-by-4.0, or cc-by-nc-4.0 where a component is non-commercial.
        video_licenses: The licenses of the videos in the rows; required if there are any.
        people: What is known of the consent of the people in the videos, and where to write; required for public
            videos.
        public: Whether the repository will be public.

    Raises:
        PublishError: if something in it is damaged, may not be redistributed, or has unknown terms.
    """
    from anthrotap_hf.data.verify import verify

    manifest = _read_manifest(folder)
    check_no_licensed_files(folder)
    report = verify(folder, videos=False)
    if report.problems:
        count, first = len(report.problems), report.problems[0]
        raise PublishError(f"{first} ({count} problems in all)", hint=f"`anthrotap verify {folder}` lists them")
    if not report.rows:
        raise PublishError("it has no row", path=folder)
    shards = find_shards(folder / "data")
    reader = ShardReader(shards)
    rows = components_of_rows(reader.columns(ROW_COLUMNS))
    components = list(dict.fromkeys([*components_of_config(manifest["config"]), *rows]))
    license = choose_license(license, components, "cc-by-4.0", "labels")
    videos = _videos_in(reader)
    if videos:
        counts = _check_video_licenses(videos, video_licenses, is_build="videos" in manifest)
    elif video_licenses is not None:
        raise PublishError("the rows hold no videos: leave it out", argument="video_licenses")
    else:
        counts = []
    if videos and public and people is None:
        raise PublishError(
            "everybody will see the people in these videos",
            hint="say whether they consented, and where to write to be taken out",
            argument="people",
        )

    files: dict[str, Path | bytes] = {shard.relative_to(folder).as_posix(): shard for shard in shards}
    files |= {name: folder / name for name in METADATA if (folder / name).is_file()}
    picture = _picture(reader)
    if picture is not None:
        files[PICTURE] = picture
    terms = DatasetTerms(license, counts, components, people)
    files["README.md"] = dataset_card(manifest, repo, PICTURE if picture else None, terms).encode()
    return Publication("dataset", files, ("data/*",), other_files(folder, files))


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = read_manifest(folder)
        dataset_card(manifest)
    except FileNotFoundError as error:
        reason = f"not a dataset that `anthrotap build` or `label` wrote (it has no {MANIFEST})"
        raise PublishError(reason, path=folder) from error
    except ManifestError as error:
        raise PublishError(error.reason, path=error.path, hint=error.hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"damaged, or of an older version ({error or type(error).__name__})"
        raise PublishError(reason, path=folder / MANIFEST, hint="build again") from error
    return manifest


def _videos_in(reader: ShardReader) -> list[tuple[str, str]]:
    """Return file name and SHA-256 of each video of which a row holds frames."""
    rows = reader.columns(("source_video", "source_sha256", "video"))
    return list(dict.fromkeys((name, sha256) for name, sha256, video in rows if video is not None))


def _check_video_licenses(
    videos: list[tuple[str, str]], licenses: VideoLicenses | None, is_build: bool
) -> list[dict[str, Any]]:
    """Return `count`, `license` and `attribution` of each license, the most frequent first.

    Raises:
        PublishError: if a video may not be redistributed, or its license is not known.
    """
    same = "the same folder leaves the videos out without labeling again"
    folder = same if is_build else "another folder leaves the videos out"
    without_videos = f"`anthrotap build --label-only` into {folder}"
    if licenses is None:
        raise PublishError(
            f"the rows hold {len(videos):,} video{'s' if len(videos) > 1 else ''}",
            hint="say under which license they may be redistributed (one for all, or a .csv of "
            f"video,license,attribution); {without_videos}",
            argument="video_licenses",
        )
    unknown: list[str] = []
    forbidden: list[str] = []
    counts: Counter[VideoLicense] = Counter()
    for name, sha256 in videos:
        license = licenses.of(name, sha256)
        if license is None:
            unknown.append(name)
        elif not MAY_BE_REDISTRIBUTED[license.license]:
            forbidden.append(f"{name} ({license.license})")
        else:
            counts[license] += 1
    if unknown:
        reason = f"no license is given for {_some(unknown)}"
        raise PublishError(reason, hint=without_videos, argument="video_licenses")
    if forbidden:
        reason = f"clips may not be redistributed of {_some(forbidden)}"
        raise PublishError(reason, hint=without_videos, argument="video_licenses")
    return [
        {"count": count, "license": license.license, "attribution": license.attribution}
        for license, count in sorted(counts.items(), key=lambda each: (-each[1], each[0].license))
    ]


def _some(names: list[str]) -> str:
    more = len(names) - NAMED_VIDEOS
    return ", ".join(names[:NAMED_VIDEOS]) + (f" and {more:,} more" if more > 0 else "")


def _picture(reader: ShardReader) -> bytes | None:
    """Render some clips with their tracks as a JPEG; return None if no label is visible."""
    import cv2

    from anthrotap_hf.visualization.overlay import contact_sheet

    images = list(itertools.islice(_overlays(reader), PICTURE_CLIPS))
    if not images:
        return None
    sheet = contact_sheet(images, PICTURE_CLIPS, PICTURE_WIDTH)
    _, jpeg = cv2.imencode(".jpg", sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return jpeg.tobytes()


def _overlays(reader: ShardReader) -> Iterator[np.ndarray]:
    """Yield the most visible frame of each clip with people, with its tracks drawn; on gray without a video."""
    from anthrotap_hf.visualization.overlay import draw_tracks

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
