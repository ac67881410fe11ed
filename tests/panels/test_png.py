from __future__ import annotations

import io

import numpy as np
from PIL import Image

from sbldlib.panels.png import encode_png


def test_the_encoded_png_holds_the_pixels():
    generator = np.random.default_rng(0)
    rgba = generator.integers(0, 256, (7, 5, 4), np.uint8)
    image = Image.open(io.BytesIO(encode_png(rgba)))
    image.verify()
    decoded = np.asarray(Image.open(io.BytesIO(encode_png(rgba))))
    assert image.mode == "RGB" and (decoded == rgba[..., :3]).all()
