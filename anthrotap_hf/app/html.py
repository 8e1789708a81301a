"""The pieces of HTML that the tabs are made of."""

from __future__ import annotations

import html


def note(text: str, kind: str = "plain") -> str:
    """Return a sentence for the page; `kind` is "plain" or "bad"."""
    return f'<p class="note {kind}" role="status">{html.escape(text)}</p>'


def title(name: str, details: str) -> str:
    """Return a name in bold, with details below it."""
    return f"<p><strong>{html.escape(name)}</strong><br><span>{html.escape(details)}</span></p>"


def tracker_list(trackers: dict[str, str]) -> str:
    """Return a line on each tracker, and where more is said."""
    rows = "".join(f"<li><b>{html.escape(name)}</b> {html.escape(text)}</li>" for name, text in trackers.items())
    more = '<a href="edit/docs/tracking" target="_blank">All trackers</a>'
    return f'<ul class="trackers">{rows}<li>{more}</li></ul>'


def editor_link(visitor: str) -> str:
    """Return a link that opens the editor with a visitor's video and points, in a tab of its own."""
    # What stands behind # is not sent, and so in no log.
    link = f'<a class="edit" href="edit/#take={html.escape(visitor)}" target="_blank">Correct tracks in the editor</a>'
    return f'<p class="hint">{link}: frame by frame, with zoom, undo and a timeline.</p>'


def numbers(values: dict[str, str]) -> str:
    """Return a row of values, each with its name."""
    cells = "".join(
        f"<div><dd>{html.escape(value)}</dd><dt>{html.escape(name)}</dt></div>" for name, value in values.items()
    )
    return f'<dl class="numbers">{cells}</dl>'


def label_fractions(visible: float, occluded: float, invalid: float) -> str:
    """Return a bar of three parts, fractions of all labels, with its legend."""
    parts = {"visible": visible, "occluded": occluded, "invalid": invalid}
    bar = "".join(f'<i class="{name}" style="width:{part:.2%}"></i>' for name, part in parts.items())
    legend = "".join(f'<span><i class="{name}"></i>{name} {part:.0%}</span>' for name, part in parts.items())
    return f'<div class="fractions"><div class="bar">{bar}</div><div class="legend">{legend}</div></div>'


def count(number: int, noun: str) -> str:
    """Return "1 point", "2 points"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
