"""Who is labeled: of the people of a clip, which have labels, and in how many frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.label_accuracy.percentages import percentage, plain

# A person is seen in a frame with at least so many positions of the visible area (36 pixels each), and labeled with at
# least so many visible labels on it; fewer may be a neighbor's.
SEEN_POSITIONS = 20
LABELED = 5


@dataclass(frozen=True)
class VisibleArea:
    """Positions spread evenly over the visible bodies of some frames.

    Attributes:
        frame: [K] int, number of the frame among those sampled.
        person: [K] int.
        part: [K] int, the body part.
        near: [K] bool, whether a visible label is near.
    """

    frame: np.ndarray
    person: np.ndarray
    part: np.ndarray
    near: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence[VisibleArea]) -> VisibleArea:
        """Join the positions of several frames; there is at least one."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def people_figures(area: VisibleArea, labeled: Sequence[np.ndarray], num_people: int) -> dict[str, Any]:
    """Measure who is labeled.

    Args:
        area: the visible bodies in some frames.
        labeled: for each of these frames, the person on whom each visible label lies, [K] int; -1 for none.
        num_people: people of the clip.

    Returns:
        A dict that JSON can hold:
        main_coverage: `near` of the person of whom most is visible over the clip, percent.
        unlabeled: of the appearances (a person in a frame, with at least `SEEN_POSITIONS` positions), those with fewer
            than `LABELED` visible labels on the person, percent.
        counts: `main_positions` and `appearances`, the cases of these; `people` who appear in any frame, and
            `people_labeled`, those of them who are labeled in any.
    """
    frames = range(len(labeled))
    seen = np.stack([np.bincount(area.person[area.frame == t], minlength=num_people) for t in frames])
    labels = np.stack([np.bincount(person[person >= 0], minlength=num_people) for person in labeled])
    appears = seen >= SEEN_POSITIONS
    has_labels = appears & (labels >= LABELED)
    # A clip may show nobody but on a picture.
    main = area.near[area.person == seen.sum(0).argmax()] if num_people else area.near
    return {
        "main_coverage": percentage(main),
        # A clip of one person has few appearances, and each counts.
        "unlabeled": float(100 * (~has_labels[appears]).mean()) if appears.any() else None,
        "counts": {
            "main_positions": len(main),
            "appearances": int(appears.sum()),
            "people": int(appears.any(0).sum()),
            "people_labeled": int(has_labels.any(0).sum()),
        },
    }


def people_table(results: Mapping[str, Mapping[str, Any]], title: str = "") -> Table:
    """Make a table of who is labeled, and of labels on nobody, on another person or leg; one row a result."""
    lags = list(next(iter(results.values()))["lags"])
    table = Table("", title=title, title_justify="left")
    columns = ["people\nlabeled", "main person\ncoverage", "a person's frames\nwithout labels", "labels on\nno person"]
    strayed = {"on another person": "wrong_person", "on the other leg": "wrong_leg"}
    for name in (*columns, *(f"{where}\nlag {lag}" for where in strayed for lag in lags)):
        table.add_column(name, justify="right")
    table.caption = "percentages, but for people"
    for name, result in results.items():
        found, counts = result["people"], result["people"]["counts"]
        table.add_row(
            name,
            f"{counts['people_labeled']:.3g} of {counts['people']:.3g}",
            plain(found["main_coverage"], 0),
            plain(found["unlabeled"]),
            plain(result["off_body"]),
            *(plain(result["lags"][lag][figure]) for figure in strayed.values() for lag in lags),
        )
    return table
