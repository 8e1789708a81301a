"""The Space: https://huggingface.co/docs/hub/spaces-sdks-gradio runs this file."""

from anthrotap_hf.app import build_app, launch_options

demo = build_app()

if __name__ == "__main__":
    demo.launch(**launch_options(demo))
