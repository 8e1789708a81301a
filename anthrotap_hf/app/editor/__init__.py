"""The editor of tracks at /edit: a page of its own beside Gradio's, for correcting tracks frame by frame."""
