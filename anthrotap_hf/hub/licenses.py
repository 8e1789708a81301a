"""Who may pass on what: the licenses of the parts that labels and trackers are made of, and those of videos."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Licenses by the Hub's identifiers, and whether a clip cut from a video under them, encoded anew, may be passed on.
MAY_BE_PASSED_ON = {
    **dict.fromkeys(("cc0-1.0", "pddl", "unlicense"), True),
    **dict.fromkeys(("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause"), True),
    **{f"cc-by{kind}-{version}": True for kind in ("", "-sa", "-nc", "-nc-sa") for version in ("3.0", "4.0")},
    # Cut and encoded clips are derivatives.
    **{f"cc-by{kind}-{version}": False for kind in ("-nd", "-nc-nd") for version in ("3.0", "4.0")},
    "all-rights-reserved": False,
    "unknown": False,
}


# Others of the Hub's identifiers, for labels and weights.
OTHER_LICENSES = frozenset(
    """
    afl-3.0 agpl-3.0 artistic-2.0 bigscience-openrail-m bsd bsl-1.0 cc cc-by-2.0 cc-by-2.5 cc-by-sa-2.0 c-uda
    cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
    gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mpl-2.0 ms-pl ncsa odbl odc-by openrail openrail++ osl-3.0 wtfpl
    zlib other
    """.split()  # noqa: SIM905 - a list of forty words
)


def is_non_commercial(license: str) -> bool:
    return "-nc" in license or license == RESEARCH_ONLY


NON_COMMERCIAL = "cc-by-nc-4.0"
UNKNOWN = "unknown"
RESEARCH_ONLY = "research-only"  # not one of the Hub's: cards say `other` and explain it


@dataclass(frozen=True)
class Component:
    """Something that went in.

    Attributes:
        name: what it is called.
        license: of the Hub's identifiers; or `RESEARCH_ONLY`; `UNKNOWN`; or "other", for what `terms` explains.
        terms: in plain words.
    """

    name: str
    license: str
    terms: str


_SMPL = Component(
    "SMPL body model",
    RESEARCH_ONLY,
    "for non-commercial research, by registration; the file may not be passed on (https://smpl.is.tue.mpg.de)",
)
BODIES = {
    "anny": Component("Anny body model", "apache-2.0", "code Apache-2.0, assets CC0 (NAVER)"),
    "smpl": _SMPL,
    "smplh": Component("SMPL-H body model", _SMPL.license, "as SMPL (https://mano.is.tue.mpg.de)"),
    "smplx": Component("SMPL-X body model", _SMPL.license, "as SMPL (https://smpl-x.is.tue.mpg.de)"),
    "smal": Component("SMAL animal model", _SMPL.license, "as SMPL (https://smal.is.tue.mpg.de)"),
}
MESH_SOURCES = {
    "fit": Component("AnthroTAP's fit", "apache-2.0", "ours"),
    "tokenhmr": Component(
        "TokenHMR",
        RESEARCH_ONLY,
        "for non-commercial research; weights may not be passed on (https://tokenhmr.is.tue.mpg.de)",
    ),
    "file": Component(
        "meshes from a file", UNKNOWN, "brought by whoever labeled: their terms are not known here"
    ),
}
FLOWS = {
    "dis": Component("DIS optical flow", "apache-2.0", "OpenCV"),
    "raft": Component("RAFT optical flow", "bsd-3-clause", "code and weights of torchvision"),
}
PEOPLE = {
    "blazepose": Component("BlazePose", "apache-2.0", "network files of mediapipe (Google)"),
    "boxes": Component("D-FINE person detector", "apache-2.0", "unless the recipe names another detector"),
}
SOURCES = {
    "procedural": Component("moving shapes", "apache-2.0", "drawn by AnthroTAP"),
    "kubric": Component(
        "Kubric MOVi",
        "apache-2.0",
        "code Apache-2.0; Google Scanned Objects CC BY 4.0, skies of Poly Haven CC0",
    ),
    "panning-movi-e": Component(
        "panning MOVi-E",
        "apache-2.0",
        "made by Kubric: code Apache-2.0; Google Scanned Objects CC BY 4.0, skies of Poly Haven CC0",
    ),
    "point-odyssey": Component(
        "PointOdyssey",
        UNKNOWN,
        "code MIT; no terms of the clips are stated there (https://github.com/y-zheng18/point_odyssey)",
    ),
    "drivetrack": Component(
        "DriveTrack", RESEARCH_ONLY, "drawn from the Waymo Open Dataset: non-commercial use"
    ),
    "letsdance": Component(
        "Let's Dance, with the labels of AnthroTAP's authors",
        RESEARCH_ONLY,
        "labels by SMPL and TokenHMR: non-commercial research; the videos, of YouTube, were released for research "
        "(https://www.cc.gatech.edu/cpl/projects/dance/) and are not passed on",
    ),
}
STARTS = {
    "locotrack": Component("LocoTrack's released weights", "apache-2.0", "cvlab-kaist/locotrack"),
    "tapnext": Component("TAPNext's released weights", "apache-2.0", "google-deepmind/tapnet"),
}


def of_labels(config: Mapping[str, Any]) -> list[Component]:
    """What labels of a recipe, as manifests describe it, are made of. Unknown parts are told as such."""
    body = [] if config["body"] == "mesh" else [known(BODIES, config["body"], "body")]  # vertices of a file
    return [
        known(PEOPLE, config["detection"]["detector"], "people detector"),
        *body,
        known(MESH_SOURCES, config["mesh_source"], "mesh source"),
        known(FLOWS, config["flow"]["model"], "flow"),
    ]


def of_rows(made: Iterable[tuple[str | None, ...]]) -> list[Component]:
    """What rows say that made them: body model, mesh source and flow."""
    tables = (BODIES, "body"), (MESH_SOURCES, "mesh source"), (FLOWS, "flow")
    return [
        known(table, str(value), kind)
        for values in made
        for (table, kind), value in zip(tables, values, strict=True)
        if value and (kind, value) != ("body", "mesh")  # of which a file says no more
    ]


def known(table: Mapping[str, Component], name: str, kind: str) -> Component:
    """The component of a table; one that says so where its terms are not known."""
    return table.get(name) or Component(f"{kind} `{name}`", UNKNOWN, "its terms are not known here")


def license_for(asked: str | None, components: Iterable[Component], usual: str, what: str) -> str:
    """The license that was asked for; else `usual`, or where an component is for research only cc-by-nc-4.0.

    Raises:
        ValueError: if it gives rights that an component does not, is no license of the Hub's, or has to be said
            because the terms of an component are not known here.
    """
    components = list(components)
    unknown = next((each for each in components if each.license == UNKNOWN), None)
    if asked is None and unknown is not None:
        raise ValueError(
            f"{unknown.name}: {unknown.terms}; say in --license under which license {what} may go up"
        )
    if asked is not None and asked not in MAY_BE_PASSED_ON and asked not in OTHER_LICENSES:
        raise ValueError(
            f"--license {asked} is none of the Hub's identifiers, such as apache-2.0, mit or cc-by-4.0"
        )
    bound = [each for each in components if is_non_commercial(each.license)]
    if asked is None:
        return NON_COMMERCIAL if bound else usual
    if bound and not is_non_commercial(asked) and asked != "all-rights-reserved":
        raise ValueError(
            f"--license {asked} lets {what} be used commercially, but {bound[0].name} is {bound[0].terms}; "
            f"--license {NON_COMMERCIAL} does not"
        )
    return asked


@dataclass(frozen=True)
class VideoLicense:
    """Of a video: the Hub's identifier, and whom to name."""

    license: str
    attribution: str = ""

    def __post_init__(self) -> None:
        if self.license not in MAY_BE_PASSED_ON:
            raise ValueError(
                f"no known license: {self.license}; known are {', '.join(sorted(MAY_BE_PASSED_ON))}"
            )
        if self.license.startswith("cc-by") and not self.attribution:
            raise ValueError(
                f"{self.license} asks for whom to name: say it in --attribution, or in the table"
            )


class VideoLicenses:
    """The license of each video of a dataset: one for all, or a table."""

    def __init__(self, by_name: Mapping[str, VideoLicense], default: VideoLicense | None = None) -> None:
        self.by_name = dict(by_name)
        self.default = default

    @classmethod
    def read(cls, words: str, attribution: str | None) -> VideoLicenses:
        """From a license's name, or a .csv of `video,license,attribution` (the video's file name or its SHA-256).

        Raises:
            ValueError: for a license that is not known, or a table that can't be read, in one line.
            OSError: if the file can't be opened.
        """
        if not words.endswith(".csv"):
            return cls({}, VideoLicense(words, attribution or ""))
        if attribution is not None:
            raise ValueError(f"--attribution does not go with {words}, whose column attribution says it")
        found: dict[str, VideoLicense] = {}
        with Path(words).open(newline="", encoding="utf-8-sig") as file:
            try:
                reader = csv.DictReader(file)
                if not {"video", "license"} <= set(reader.fieldnames or ()):
                    raise ValueError("wants a heading: video,license,attribution")
                for row in reader:
                    if row["video"] in found:
                        raise ValueError(f"{row['video']} is there twice")
                    found[row["video"]] = VideoLicense(row["license"], (row.get("attribution") or "").strip())
            except UnicodeDecodeError as error:
                raise ValueError(f"{words}: not a text file (not UTF-8)") from error
            except (ValueError, csv.Error) as error:
                raise ValueError(f"{words}: {error}") from error
        return cls(found)

    def of(self, name: str, sha256: str) -> VideoLicense | None:
        """Of the video with this file name and SHA-256; None where nothing is said of it."""
        return self.by_name.get(sha256) or self.by_name.get(name) or self.default
