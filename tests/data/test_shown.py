from __future__ import annotations

import numpy as np
from PIL import Image

from irbin.data import open_dataset, pixels_at
from irbin.records.options import DataOptions, Preprocessing

SEEN = Preprocessing((3, 28, 28), crop_pct=1.0)


def test_pixels_are_what_the_network_is_given(pictures28) -> None:
    options = DataOptions(data_dir=str(pictures28))
    found = pixels_at(options, SEEN, [17, 0])
    assert list(found) == [17, 0]
    dataset = open_dataset(options, options.val_split, SEEN, training=False)
    for place, pixels in found.items():
        assert np.array_equal(pixels, np.asarray(Image.open(dataset.name(place))))


def test_a_damaged_image_is_left_out(tmp_path) -> None:
    folder = tmp_path / "val" / "a"
    folder.mkdir(parents=True)
    Image.new("RGB", (28, 28)).save(folder / "0.png")
    (folder / "1.png").write_bytes(b"no image")
    assert list(pixels_at(DataOptions(data_dir=str(tmp_path)), SEEN, [0, 1])) == [0]
