"""The style of the page, light and dark. It has system fonts only, so that nothing is fetched from another host."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace")

HEAD = """
<header class="masthead">
  <h1><i></i><i></i><i></i>AnthroTAP</h1>
  <p>Follow any point through a video.</p>
</header>
"""

CSS = Path(__file__).with_name("style.css")


def theme() -> gr.themes.Base:
    """Return the colors: warm grays and teal."""
    return gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="stone",
        radius_size="lg",
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="#fbfaf8",
        body_background_fill_dark="#151413",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1f1d1b",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_border_width="1px",
        block_shadow="none",
        block_label_background_fill="#ffffff",
        block_label_background_fill_dark="#1f1d1b",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover_dark="#0d9488",
        button_primary_text_color="#ffffff",
        slider_color="#0d9488",
        slider_color_dark="#14b8a6",
    )
