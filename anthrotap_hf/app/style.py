"""The style of the page, light and dark. It has system fonts only, so that nothing is fetched from another host."""

from __future__ import annotations

import gradio as gr

SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace")

HEAD = """
<header class="masthead">
  <h1><i></i><i></i><i></i>AnthroTAP</h1>
  <p>Follow any point through a video.</p>
</header>
"""

CSS = """
.gradio-container { width: 100% !important; max-width: 1180px !important; margin: 0 auto !important;
  padding: 0 !important; --color-accent: #0f766e; }
.dark .gradio-container, .gradio-container.dark { --color-accent: #2dd4bf; }
.fillable { padding: 0 20px 40px !important; }
.html-container { padding: 0 !important; }
.masthead { padding: 26px 0 6px; }
.masthead h1 { font-size: 27px; font-weight: 700; letter-spacing: -0.02em; margin: 0; display: flex;
  align-items: center; }
.masthead h1 i { width: 11px; height: 11px; border-radius: 50%; margin-right: 5px; background: #f97316; }
.masthead h1 i:nth-child(2) { background: #14b8a6; }
.masthead h1 i:nth-child(3) { background: none; border: 2.5px solid #6366f1; margin-right: 11px; }
.masthead p { color: var(--body-text-color-subdued); margin: 3px 0 0; font-size: 15px; }
.lead { font-size: 15px; line-height: 1.55; margin: 4px 0 2px; max-width: 75ch; }
.hint { color: var(--body-text-color-subdued); font-size: 13px; margin: 0; line-height: 1.4; }
.under, .opened { align-items: center; }
.under > .block, .opened > .block { flex: 1 1 200px !important; }
.opened p { margin: 0; line-height: 1.35; overflow-wrap: anywhere; }
.opened span { color: var(--body-text-color-subdued); font-size: 13px; }
.tools { gap: 8px !important; }
.bottom { align-items: flex-end; }
.block.said { min-height: 56px; }
.block.said:has(.note) { min-height: 0; }
.block.said:has(> .wrap.hide):not(:has(.note)) { display: none; }
.said:has(.progress-level) + .queue { display: none; }
.label-clear-button { display: none; }
.note { margin: 0; padding: 2px 0; font-size: 14px; color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
.note.bad { color: #b42318; background: #fef3f2; border: 1px solid #fecdca; border-radius: 8px; padding: 9px 12px; }
.dark .note.bad { color: #fda29b; background: #3a1512; border-color: #7a271a; }
.numbers { display: flex; flex-wrap: wrap; gap: 8px 30px; margin: 6px 0; }
.numbers div { display: flex; flex-direction: column; }
.numbers dd { margin: 0; font-size: 21px; font-weight: 650; font-variant-numeric: tabular-nums; line-height: 1.25; }
.numbers dt { font-size: 12.5px; color: var(--body-text-color-subdued); }
.fractions { margin: 10px 0 4px; }
.fractions .bar { display: flex; height: 10px; border-radius: 5px; overflow: hidden; }
.fractions .legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 6px; font-size: 13px;
  color: var(--body-text-color-subdued); }
.fractions .legend i { display: inline-block; width: 9px; height: 9px; border-radius: 3px; margin-right: 6px; }
.fractions i.visible { background: #0d9488; }
.fractions i.occluded { background: #f59e0b; }
.fractions i.invalid { background: #a8a29e; }
#track-frame img { cursor: crosshair; }
#track-frame img, #label-preview img, .gradio-container video { max-height: 72vh !important; }
#track-frame img, #label-preview img { width: auto !important; max-width: 100%; margin: 0 auto; }
#browse-gallery img { cursor: pointer; }
#browse-gallery .grid-wrap { max-height: none !important; }
@media (max-width: 640px) {
  .fillable { padding: 0 12px 30px !important; }
  .masthead { padding-top: 16px; }
  .tab-container button { padding: 0 9px !important; font-size: 13.5px !important; }
  #browse-gallery .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
}
"""


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
