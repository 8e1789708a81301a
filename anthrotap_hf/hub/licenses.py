"""Licenses of what labels and trackers are made of, and of videos: what may be published, and under which license."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from anthrotap_hf.hub.errors import PublishError
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.utils.provenance import RESEARCH_ONLY, UNKNOWN, Component, is_non_commercial

MAY_BE_REDISTRIBUTED = {
    **dict.fromkeys(("cc0-1.0", "pddl", "unlicense"), True),
    **dict.fromkeys(("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause"), True),
    **{f"cc-by{kind}-{version}": True for kind in ("", "-sa", "-nc", "-nc-sa") for version in ("3.0", "4.0")},
    # No derivatives: a clip that was cut and encoded again is one.
    **{f"cc-by{kind}-{version}": False for kind in ("-nd", "-nc-nd") for version in ("3.0", "4.0")},
    "all-rights-reserved": False,
    "unknown": False,
}
"""Licenses of videos, by the Hub's identifiers, and whether a clip cut from such a video may be redistributed."""

OTHER_LICENSES = frozenset(
    """
    afl-3.0 agpl-3.0 artistic-2.0 bigscience-openrail-m bsd bsl-1.0 cc cc-by-2.0 cc-by-2.5 cc-by-sa-2.0 c-uda
    cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
    gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mpl-2.0 ms-pl ncsa odbl odc-by openrail openrail++ osl-3.0 wtfpl
    zlib other
    """.split()  # noqa: SIM905 - a list of forty words
)
"""Further identifiers of the Hub, for labels and weights."""

NON_COMMERCIAL = "cc-by-nc-4.0"
OWN_TERMS = "other"
"""The Hub's identifier of a license that is none of its list; the component's terms explain it."""
# Tables whose components are weights.
_TABLES_OF_WEIGHTS = ("released_weights",)

COMPONENTS = {
    table: {name: Component(**values, is_weights=table in _TABLES_OF_WEIGHTS) for name, values in rows.items()}
    for table, rows in yaml.safe_load(Path(__file__).with_name("components.yaml").read_text("utf-8")).items()
}
"""The known components: the tables of `components.yaml`."""

_OF_OWN_LICENSES = [each for each in COMPONENTS["mesh_sources"].values() if each.license == OWN_TERMS]

ROW_COLUMNS = ("body_model", "mesh_source", "flow")
"""The columns of a dataset's rows that name what the labels were made with."""


def components_of_config(config: Mapping[str, Any]) -> list[Component]:
    """Return what labels are made with, by the configuration in their manifest."""
    detector = _component("detectors", config["detection"]["detector"], "person detector")
    row = (config["body"], config["mesh_source"], config["flow"]["model"])
    return [detector, *components_of_rows([row])]


def components_of_rows(rows: Iterable[Sequence[Any]], dataset: str | None = None) -> list[Component]:
    """Return what the labels of rows are made with. A name that is not known becomes a component of unknown terms.

    Args:
        rows: The values of `ROW_COLUMNS` in each row.
        dataset: The dataset's name, for the names of unknown components.
    """
    of = "" if dataset is None else f" of `{dataset}`"
    found = [
        _component(f"{column}s", str(value), column.replace("_", " ") + of)
        for values in dict.fromkeys(map(tuple, rows))
        for column, value in zip(ROW_COLUMNS, values, strict=True)
        # The vertices of a mesh file: the mesh source "file" says all that is known.
        if (column, value) != ("body_model", "mesh")
    ]
    return list(dict.fromkeys(found))


def _component(table: str, name: str, kind: str) -> Component:
    return COMPONENTS[table].get(name) or Component(f"{kind} `{name}`", UNKNOWN, "its terms are not known")


def choose_license(asked: str | None, components: Collection[Component], default: str, what: str) -> str:
    """Return the license to publish under.

    Args:
        asked: The license that the user asks for; None for that of the weights among the components, or `default`
            where there are none; or cc-by-nc-4.0 if another component is non-commercial.
        components: What the labels or weights are made of.
        default: The license where nothing else follows from the components.
        what: "labels" or "weights", for messages.

    Raises:
        PublishError: if `asked` grants rights that a component does not grant, or is not one of the Hub's identifiers;
            or if it is None and the terms of a component are not known, or are those of a mesh source's own license.
    """
    # The narrowest terms count: what is for non-commercial use goes before a license of its own.
    own = [] if any(each.is_non_commercial for each in components) else _OF_OWN_LICENSES
    unknown = next((each for each in components if each.license == UNKNOWN or each in own), None)
    if asked is None and unknown is not None:
        reason = f"{unknown.name}: {unknown.terms}"
        raise PublishError(reason, hint=f"say under which license the {what} may be published", argument="license")
    if asked is not None and asked not in MAY_BE_REDISTRIBUTED and asked not in OTHER_LICENSES:
        reason = f"{asked!r} is none of the Hub's identifiers, such as apache-2.0, mit or cc-by-4.0"
        raise PublishError(reason, argument="license")
    bound = next((each for each in components if each.is_non_commercial), None)
    if asked is None:
        # What is trained from weights is derived from them: it keeps their license, and not only what that allows.
        of_weights = [each.license for each in components if each.is_weights and each.license != RESEARCH_ONLY]
        if bound is not None:
            return next(filter(is_non_commercial, of_weights), NON_COMMERCIAL)
        return next((license for license in of_weights if license != default), default)
    if bound is not None and not is_non_commercial(asked) and asked != "all-rights-reserved":
        raise PublishError(
            f"{asked} allows commercial use of the {what}, but {bound.name} is for {bound.terms}",
            hint=f"{NON_COMMERCIAL} does not",
            argument="license",
        )
    return asked


def _videos_of(path: Path) -> list[Path]:
    """Return a video, or those in and below a folder. Raises PublishError if there is none."""
    from anthrotap_hf.video import VIDEO_SUFFIXES

    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES]
    if not files:
        raise PublishError(f"{path}: no such video, and no folder of videos")
    return files


@dataclass(frozen=True)
class VideoLicense:
    """The license of a video: the Hub's identifier, and whom to credit."""

    license: str
    attribution: str = ""

    def __post_init__(self) -> None:
        if self.license not in MAY_BE_REDISTRIBUTED:
            known = ", ".join(sorted(MAY_BE_REDISTRIBUTED))
            raise PublishError(f"unknown license {self.license!r}", hint=f"known: {known}", argument="video_licenses")
        if self.license.startswith("cc-by") and not self.attribution:
            raise PublishError(
                f"{self.license} requires attribution", hint="say whom to credit", argument="attribution"
            )


def _by_bytes(of_paths: Mapping[Path, VideoLicense]) -> dict[str, VideoLicense]:
    """Return the licenses of videos by SHA-256, as rows of a dataset hold no folders.

    Args:
        of_paths: Licenses of videos and folders, by absolute path. A video's own goes first, then the nearest folder's.

    Raises:
        PublishError: if two files of the same bytes have two licenses, or there is no video at a path.
    """
    of_files: dict[Path, VideoLicense] = {}
    for path in sorted(of_paths, key=lambda path: len(path.parts)):
        of_files |= dict.fromkeys(_videos_of(path), of_paths[path])
    first: dict[str, Path] = {}
    for file, given in of_files.items():
        other = first.setdefault(file_sha256(file), file)
        if of_files[other] != given:
            raise PublishError(f"{other} and {file} are the same video, with two licenses")
    return {sha256: of_files[file] for sha256, file in first.items()}


@dataclass(frozen=True)
class VideoLicenses:
    """The licenses of a dataset's videos.

    Attributes:
        by_name: Licenses by a video's file name or SHA-256.
        default: The license of all other videos; None where it is not known.
    """

    by_name: Mapping[str, VideoLicense]
    default: VideoLicense | None = None

    @classmethod
    def read(cls, license: str, attribution: str | None) -> VideoLicenses:
        """Make them of one license for all videos, or read a .csv with the columns video, license, attribution.

        Args:
            license: The name of a license, or the path of a .csv file, whose videos are file names or SHA-256s; or
                paths from the table's folder on, with a "/", of a video or of a folder of videos. What is said of a
                video goes before what is said of its folder, and of folders the nearest one counts.
            attribution: Whom to credit, for one license only.

        Raises:
            PublishError: if a license is unknown, or the table can't be read.
            OSError: if the file can't be opened.
        """
        if not license.endswith(".csv"):
            return cls({}, VideoLicense(license, attribution or ""))
        if attribution is not None:
            raise PublishError(f"the table {license} has its own column", argument="attribution")
        by_name: dict[str, VideoLicense] = {}
        with Path(license).open(newline="", encoding="utf-8-sig") as file:
            try:
                reader = csv.DictReader(file)
                if not {"video", "license"} <= set(reader.fieldnames or ()):
                    raise PublishError("the heading is not video,license,attribution")
                of_paths: dict[Path, VideoLicense] = {}
                listed: set[str] = set()
                for row in reader:
                    if row["video"] in listed:
                        raise PublishError(f"{row['video']} is listed twice")
                    listed.add(row["video"])
                    credit = (row.get("attribution") or "").strip()
                    given = VideoLicense(row["license"], credit)
                    if "/" not in row["video"]:
                        by_name[row["video"]] = given
                        continue
                    path = Path(os.path.abspath(Path(license).parent / row["video"]))
                    if of_paths.setdefault(path, given) != given:
                        raise PublishError(f"{row['video']} is listed twice, with two licenses")
                by_name = {**_by_bytes(of_paths), **by_name}
            except UnicodeDecodeError as error:
                raise PublishError("not a text file (not UTF-8)", path=license) from error
            except PublishError as error:
                raise PublishError(error.reason, path=license, hint=error.hint) from error
            except csv.Error as error:
                raise PublishError(error, path=license) from error
        return cls(by_name)

    def of(self, name: str, sha256: str) -> VideoLicense | None:
        """Return the license of the video with this file name and SHA-256; None where it is not known."""
        return self.by_name.get(sha256) or self.by_name.get(name) or self.default
