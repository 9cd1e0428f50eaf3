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
    # what SI-SDR finds in the noisy input is the manifest's SNR; the mixes give theirs against active speech only
    for clip in result.clips:
        if clip.group == "vbd":
            assert clip.values["si_sdr"] == pytest.approx(clip.snr_db, abs=0.25)
