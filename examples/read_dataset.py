"""Read labels as a dataset: the sample of this package, or the folder or Hub repository that ANTHROTAP_REPO names."""

from datasets import load_dataset

# Importing it registers the dataset name "anthrotap".
import anthrotap_hf  # noqa: F401
from anthrotap_hf import decode_row

dataset = load_dataset("anthrotap", split="train").with_format("numpy")
print(f"{len(dataset)} clips with the columns {', '.join(dataset.column_names)}")
for row in dataset:
    frames, tracks = decode_row(row)
    visible, occluded, invalid = (100 * labels.mean() for labels in (tracks.visible, tracks.occluded, tracks.invalid))
    print(
        f"{row['clip_id']}: {len(frames)} frames of {tracks.width}x{tracks.height}, {len(tracks)} tracks, "
        f"{visible:.0f} % visible, {occluded:.0f} % occluded, {invalid:.0f} % invalid"
    )
