"""A user's Keras network, entered as a `.keras` file and as a SavedModel, against Keras itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from earshot.core.errors import ToolError
from earshot.models.frontend import Frontend
from earshot.quantize.convert import ConvertConfig, convert_model
from earshot.quantize.entry import EntryConfig, quantize_tensorflow
from earshot.quantize.parity import stream
from earshot.quantize.plan import FLOAT_FILE

tf = pytest.importorskip("tensorflow", reason="needs the extra: pip install 'earshot[tensorflow]'")
pytestmark = pytest.mark.slow

FRONTEND = Frontend(window=64, hop=32, fft=64)
ENTRY = EntryConfig(frontend=FRONTEND, input="frame", output="mask", states={"past_in": "past_out"})
FRAMES = 40


@pytest.fixture(scope="module")
def network():
    """One step with a look-back of one frame, as a Keras user writes it."""
    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    frame = layers.Input((1, 33, 1), batch_size=1, name="frame")
    past = layers.Input((1, 33, 4), batch_size=1, name="past_in")
    now = layers.Conv2D(4, (1, 3), padding="same", activation="relu")(frame)
    seen = layers.ZeroPadding2D(((0, 0), (1, 1)))(layers.Concatenate(axis=1)([past, now]))
    deep = layers.Conv2D(8, (2, 3), activation="relu")(seen)
    wide = tf.keras.initializers.RandomNormal(stddev=3, seed=0)
    mask = layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer=wide, name="mask")(deep)
    return tf.keras.Model({"frame": frame, "past_in": past}, {"mask": mask, "past_out": now})


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).random((4, 1, FRAMES, 33)).astype(np.float32)


def streamed_by_keras(network, sequence: np.ndarray) -> np.ndarray:
    past, masks = tf.zeros((1, 1, 33, 4)), []
    for frame in sequence[0, 0]:
        made = network({"frame": tf.constant(frame[None, None, :, None]), "past_in": past})
        past = made["past_out"]
        masks.append(np.asarray(made["mask"]).reshape(-1))
    return np.stack(masks)


@pytest.mark.parametrize("kind", ["net.keras", "saved"])
def test_a_keras_network_streams_as_it_does_in_keras(network, features, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    network.save(path) if path.suffix else network.export(path)
    plan, out = tmp_path / "plan", tmp_path / "out"
    plan.mkdir()
    out.mkdir()
    quantize_tensorflow(path, features, plan, entry=ENTRY)
    convert_model(plan, out, ConvertConfig(variants=("float32", "int8")), features)
    wanted = streamed_by_keras(network, features[:1])
    found = stream(plan / FLOAT_FILE, features[:1]).reshape(wanted.shape)
    assert np.abs(found - wanted).max() <= 1e-5
    codes = stream(next(out.glob("*int8.tflite")), features[:1]).reshape(wanted.shape)
    integer = (codes.astype(np.float32) + 128) / 256
    assert np.abs(integer - wanted).max() <= 0.05
    assert np.abs(wanted - wanted.mean()).max() > 0.3, "a mask that never moves would agree with anything"


def test_a_file_that_keras_cannot_read_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"no model at all")
    with pytest.raises(ToolError, match=r"broken\.keras: TensorFlow could not convert it"):
        quantize_tensorflow(broken, np.zeros((1, 1, 4, 33), np.float32), tmp_path, entry=ENTRY)
