"""Real sound files, scored as they are: the noisy figures that were found with other code."""

import os
from pathlib import Path

import pytest

from earshot.pipeline.data.config import PairsConfig
from earshot.pipeline.data.sources import material
from earshot.pipeline.enhancers import Passthrough
from earshot.pipeline.evaluation import evaluate


@pytest.mark.corpus
@pytest.mark.skipif("EARSHOT_CORPUS" not in os.environ, reason="needs the development corpus (EARSHOT_CORPUS)")
def test_noisy_figures_of_the_test_pairs():
    pairs = PairsConfig(kind="pairs", path=Path(os.environ["EARSHOT_CORPUS"]) / "test_pairs")
    clips = material(pairs, "test", 16000).pairs(16000, None, None, 0)
    result = evaluate(Passthrough(), clips, ["si_sdr"], 16000)
    means = {name: measurements[0] for name, measurements in result.by_group().items()}
    assert {name: item.n for name, item in means.items()} == {"vbd": 77, "lsmix": 43}
    assert means["vbd"].value == pytest.approx(6.0, abs=0.05)
    assert means["lsmix"].value == pytest.approx(3.6, abs=0.05)
    # the manifest's SNR is what SI-SDR measures on noisy input, up to the part of the noise that lies along the speech
    for clip in result.clips:
        assert clip.snr_db == pytest.approx(clip.values["si_sdr"], abs=1.0)
