"""Structured pruning: the graph really gets smaller, and every channel that stays is the one it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from earshot.core.errors import ModelError
from earshot.models import checkpoint
from earshot.models.cost import macs_per_second, parameters, state_bytes
from earshot.models.dae_unet import DaeUnet
from earshot.models.frontend import Frontend
from earshot.models.layers import Recurrent
from earshot.models.registry import NETWORKS, build
from earshot.models.streaming import State, StreamingModel, Trace
from earshot.pipeline.progress import Silent
from earshot.pipeline.pruning import cut, measured_frame_us, prune_network
from earshot.pipeline.training.config import PruneConfig

FRONTEND = Frontend(window=128, hop=64, fft=128)
SIZES = {"channels": [16, 24], "strides": [4, 2], "latent": 32, "hidden": 40}


def network(seed: int = 0, **changes: object) -> DaeUnet:
    torch.manual_seed(seed)
    model = build("dae_unet", FRONTEND, SIZES | changes)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.running_mean, 0, 0.3)
    return model.eval()


def settings(**values: object) -> PruneConfig:
    return PruneConfig.model_validate(values if "until" in values else {"ratio": 0.5} | values)


@torch.no_grad()
def masks(model: StreamingModel) -> Tensor:
    sequence = torch.rand(2, 1, 12, model.frontend.bins, generator=torch.Generator().manual_seed(4))
    offline = model(sequence)
    assert float((model.stream(sequence) - offline).abs().max()) <= 1e-5
    return offline


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_a_ratio_takes_that_share_out_of_every_layer(ratio: float) -> None:
    dense = network()
    before = {name: value.clone() for name, value in dense.state_dict().items()}
    pruned = cut(dense, ratio, settings(round_to=1))
    left = pruned.layer_params()
    dense_widths = (16, 24, 32, 40, 32, 48, 32)
    widths = (*left.channels, left.latent, left.hidden, *left.widths)
    assert widths == tuple(round(width * (1 - ratio)) for width in dense_widths)
    assert (left.strides, left.kernel_time) == ((4, 2), 2)
    assert pruned.params == left
    masks(pruned)  # streams
    for count in (parameters, macs_per_second, state_bytes):
        assert count(pruned) < (1 - ratio + 0.05) * count(dense)
    # A layer between two pruned ones keeps the square of its share.
    assert pruned.down[1].conv.weight.numel() == round(dense.down[1].conv.weight.numel() * (1 - ratio) ** 2)
    shapes = {name: tuple(value.shape) for name, value in pruned.initial_state(1).items()}
    assert shapes == {
        "enc0": (1, left.widths[0], 1, 17),
        "enc1": (1, left.widths[1], 1, 9),
        "gru": (1, left.hidden),
        "dec0": (1, left.widths[2], 1, 17),
    }
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items()), "the dense one changed"


@torch.no_grad()
def silence(model: DaeUnet, share: float) -> None:
    """Zeroes a random `share` of the channels of every group that must go together, written out layer by layer."""

    def some(width: int) -> Tensor:
        return torch.randperm(width)[: round(width * share)]

    def out(layer: nn.Module, index: Tensor) -> None:
        axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        layer.weight.index_fill_(axis, index, 0)
        if layer.bias is not None:
            layer.bias[index] = 0

    def into(layer: nn.Module, index: Tensor) -> None:
        layer.weight.index_fill_(0 if isinstance(layer, nn.ConvTranspose2d) else 1, index, 0)

    def norm(layer: nn.Module, index: Tensor) -> None:
        layer.weight[index], layer.bias[index] = 0, 0

    outer = [some(16), some(24)]
    for block, index in zip([*model.encoder, *model.decoder], [outer[0], outer[1], outer[0]], strict=True):
        inner = some(block.expand.conv.out_channels)
        into(block.expand.conv, index), out(block.expand.conv, inner)
        out(block.depthwise.conv, inner)
        into(block.project.conv, inner), out(block.project.conv, index)
    for down, index in zip(model.down, outer, strict=True):
        out(down.conv, index), norm(down.norm, index)
    into(model.down[1].conv, outer[0])
    squeezed, latent, units = some(32), some(32), some(40)
    into(model.squeeze.conv, outer[1]), out(model.squeeze.conv, squeezed)
    gru = model.recurrent.gru
    gru.weight_ih_l0[:, squeezed] = 0
    gru.weight_hh_l0[:, units] = 0
    for gate in range(3):
        for weight in (gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0):
            weight[units + 40 * gate] = 0
    into(model.to_latent, units), out(model.to_latent, latent)
    into(model.expand.conv, latent), out(model.expand.conv, outer[1])
    into(model.up[0].conv, outer[1]), out(model.up[0].conv, outer[0]), norm(model.up[0].norm, outer[0])
    into(model.up[1].conv, outer[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_channels_without_weight_go_first_and_nothing_changes(seed: int, share: float) -> None:
    dense = network(seed)
    silence(dense, share)
    pruned = cut(dense, share, settings(round_to=1))
    assert parameters(pruned) < (1 - share + 0.1) * parameters(dense)
    assert float((masks(pruned) - masks(dense)).abs().max()) <= 1e-5


def test_channels_with_weight_do_change_the_mask() -> None:
    """The negative control of the test above: it sees it when other channels go."""
    dense = network()
    assert float((masks(cut(dense, 0.5, settings())) - masks(dense)).abs().max()) > 1e-3
    silence(dense, 0.5)
    assert float((masks(cut(dense, 0.5, settings(importance="random"))) - masks(dense)).abs().max()) > 1e-3


@pytest.mark.parametrize("sizes", [SIZES, {"channels": [6, 10], "latent": 7, "hidden": 9}, {"channels": [3, 2]}])
@pytest.mark.parametrize("round_to", [1, 4])
def test_more_pruning_never_leaves_more(sizes: dict, round_to: int) -> None:
    """Layers too narrow for the ratio keep `round_to` channels, and none is left whole or empty."""
    dense = network(**sizes)
    pruned = [cut(dense, ratio, settings(round_to=round_to)) for ratio in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95)]
    assert parameters(pruned[0]) == parameters(dense)
    for count in (parameters, macs_per_second):
        counts = [count(one) for one in pruned]
        assert counts == sorted(counts, reverse=True)
    last = pruned[-1].layer_params()
    widths = (*last.channels, last.latent, last.hidden, *last.widths)
    assert max(widths) <= max(round_to, 0.1 * 48)
    masks(pruned[-1])


@pytest.mark.parametrize(("measure", "key"), [(parameters, "parameters"), (macs_per_second, "macs_per_second")])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_until_takes_the_smallest_ratio_that_holds(tmp_path: Path, measure, key: str, share: float) -> None:
    dense = network()
    most = round(share * measure(dense))
    config = settings(until={key: most}, round_to=1)
    pruned = prune_network(dense, config, tmp_path, Silent())
    assert measure(pruned.model) <= most
    ratio = pruned.report.ratio
    assert ratio * 20 == pytest.approx(round(ratio * 20))
    assert measure(cut(dense, ratio - 0.05, config)) > most
    assert pruned.report.parameters == (parameters(dense), parameters(pruned.model))
    assert pruned.report.macs_per_second == (macs_per_second(dense), macs_per_second(pruned.model))
    masks(pruned.model)


def test_a_network_that_fits_already_stays_whole(tmp_path: Path) -> None:
    dense = network()
    pruned = prune_network(dense, settings(until={"parameters": parameters(dense)}), tmp_path, Silent())
    assert pruned.report.ratio == 0
    assert torch.equal(masks(pruned.model), masks(dense))


def test_both_budgets_hold_together(tmp_path: Path) -> None:
    dense = network()
    both = {"parameters": parameters(dense) // 2, "macs_per_second": macs_per_second(dense) // 5}
    pruned = prune_network(dense, settings(until=both), tmp_path, Silent()).model
    assert parameters(pruned) <= both["parameters"]
    assert macs_per_second(pruned) <= both["macs_per_second"]


@pytest.mark.parametrize(("furthest", "most"), [(0.9, 50), (0.3, 9000)])
def test_a_budget_out_of_reach_says_what_is_left(tmp_path: Path, furthest: float, most: int) -> None:
    dense = network()
    least = parameters(cut(dense, furthest, settings()))
    with pytest.raises(ModelError, match=f"budget.*{most}.* {least} parameters") as caught:
        prune_network(dense, settings(max_ratio=furthest, until={"parameters": most}), tmp_path, Silent())
    assert "prune.max_ratio" in str(caught.value.hint)


def test_a_pruned_network_saves_and_loads_like_any_other(tmp_path: Path) -> None:
    pruned = cut(network(), 0.5, settings())
    checkpoint.save(pruned, "dae_unet", tmp_path / "pruned.safetensors")
    loaded = checkpoint.load(tmp_path / "pruned.safetensors")
    assert torch.equal(masks(loaded), masks(pruned))
    again = cut(loaded, 0.5, settings())
    assert parameters(again) < parameters(loaded)
    masks(again)


WAVE = Frontend(kind="wave", hop=32)
COMPLEX = Frontend(window=64, hop=32, fft=64, features="complex", mask="complex")
# Networks that can be pruned, and those of which torch-pruning cannot follow the layers: weights that are put together
# when they are used, recurrent layers in two directions, attention.
PRUNABLE: dict[str, tuple[Frontend, dict]] = {
    "dae_unet": (FRONTEND, SIZES),
    "conv_tasnet": (
        WAVE,
        {"basis": 16, "kernel": 32, "stride": 16, "bottleneck": 8, "inner": 12, "blocks": 2, "stacks": 2},
    ),
    "metricgan": (Frontend(window=64, hop=32, fft=64, features="log1p"), {"hidden": 16, "wide": 12}),
    "mobile_unet": (FRONTEND, {"channels": [8, 13], "strides": [4, 2], "expansion": 3, "hidden": 12, "mask_hidden": 8}),
    "rt_senet": (WAVE, {"channels": [8, 12], "strides": [4, 4]}),
    "wave_unet": (WAVE, {"channels": [9, 13, 20], "strides": [4, 2], "reduction": 3}),
}
WHOLE: dict[str, tuple[Frontend, dict]] = {
    "dccrn": (COMPLEX, {"channels": [4, 8], "hidden": 8}),
    "dptnet": (WAVE, {"basis": 12, "kernel": 16, "stride": 8, "width": 8, "heads": 2, "hidden": 5, "blocks": 1}),
    "ft_jnf": (COMPLEX, {"hidden_frequency": 6, "hidden_time": 5}),
    "ft_jnf_offline": (COMPLEX, {"hidden_frequency": 6, "hidden_time": 5}),
    "manner": (WAVE, {"hidden": 6, "depth": 2}),
    "manner_causal": (WAVE, {"hidden": 6, "depth": 2}),
    "metricgan_offline": (Frontend(features="log1p"), {"hidden": 9, "wide": 7}),
}


def test_every_network_is_in_one_of_both_lists() -> None:
    assert PRUNABLE.keys() | WHOLE.keys() == NETWORKS.keys()
    assert not PRUNABLE.keys() & WHOLE.keys()


@pytest.mark.parametrize("name", PRUNABLE)
@pytest.mark.parametrize("ratio", [0.25, 0.6])
def test_a_pruned_network_streams_as_it_trains_and_is_smaller(name: str, ratio: float, tmp_path: Path) -> None:
    frontend, sizes = PRUNABLE[name]
    torch.manual_seed(0)
    dense = build(name, frontend, sizes).eval()
    pruned = cut(dense, ratio, settings(round_to=1))
    # Weights between two pruned layers keep the square of their share, all others their share.
    assert (1 - ratio) ** 2 * 0.7 < parameters(pruned) / parameters(dense) < 1 - ratio + 0.1
    assert state_bytes(pruned) < state_bytes(dense) and macs_per_second(pruned) < macs_per_second(dense)
    sequence = torch.rand(2, frontend.inputs, 9, frontend.bins)
    with torch.no_grad():
        offline = pruned(sequence)
        assert offline.shape == (2, frontend.outputs, 9, frontend.bins)
        assert float((pruned.stream(sequence) - offline).abs().max()) <= 1e-5
    checkpoint.save(pruned, name, tmp_path / "pruned.safetensors")
    loaded = checkpoint.load(tmp_path / "pruned.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded(sequence), offline)
    # What is left is what was there: every row of a pruned weight has an equal in the dense one.
    before, after = dense.state_dict(), pruned.state_dict()
    biases = [key for key in after if key.endswith("bias") and after[key].dim() == 1]
    assert biases and all(set(after[key].tolist()) <= set(before[key].tolist()) for key in biases)


@pytest.mark.parametrize("name", WHOLE)
def test_a_network_that_cannot_be_pruned_says_so_by_its_name(name: str) -> None:
    model = build(name, *WHOLE[name])
    with pytest.raises(ModelError, match=f"^{type(model).__name__} cannot be pruned: ") as caught:
        cut(model, 0.5, settings())
    assert "skip prune" in str(caught.value.hint)


@torch.no_grad()
def test_units_of_an_lstm_without_weight_go_first_and_nothing_changes() -> None:
    """Half of both LSTMs' units and of the wide layer's silenced by hand; the gates of a unit go together."""
    frontend, sizes = PRUNABLE["metricgan"]
    torch.manual_seed(1)
    dense = build("metricgan", frontend, sizes).eval()
    sequence = torch.rand(2, 1, 9, frontend.bins)
    sounding = cut(dense, 0.5, settings(round_to=1))(sequence)
    for layer, after in (
        (dense.first.lstm, dense.second.lstm.weight_ih_l0),
        (dense.second.lstm, dense.head.wide.weight),
    ):
        units = torch.randperm(16)[:8]
        for gate in range(4):
            for weight in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0):
                weight[units + 16 * gate] = 0
        layer.weight_hh_l0[:, units], after[:, units] = 0, 0
    rows = torch.randperm(12)[:6]
    dense.head.wide.weight[rows], dense.head.wide.bias[rows], dense.head.gains.weight[:, rows] = 0, 0, 0
    pruned = cut(dense, 0.5, settings(round_to=1))
    assert pruned.layer_params().hidden == 8 and pruned.layer_params().wide == 6
    assert float((pruned(sequence) - dense(sequence)).abs().max()) <= 1e-6
    assert float((sounding - dense(sequence)).abs().max()) > 1e-3


class Unsized(DaeUnet):
    """Cannot say which sizes pruning left."""

    def layer_params(self):
        raise ModelError("no sizes")


class OutputsByChannel(StreamingModel):
    """Its bins are channels: pruning must not cut the mask."""

    Params = DaeUnet.Params

    def __init__(self, frontend: Frontend, params: object) -> None:
        super().__init__(frontend, params)
        self.recurrent = Recurrent(frontend.bins, 8)
        self.mask = nn.Linear(8, frontend.bins)

    def initial_state(self, batch: int = 1) -> State:
        return {"gru": self.recurrent.cache(batch)}

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        hidden = self.recurrent.step(frame[:, 0, 0], state["gru"])
        return torch.sigmoid(self.mask(hidden))[:, None, None], {"gru": hidden}

    def trace(self, sequence: Tensor) -> Trace:
        hidden = self.recurrent(sequence[:, 0])
        return Trace(torch.sigmoid(self.mask(hidden))[:, None], hidden, ())

    def layer_params(self):
        return self.params


@pytest.mark.parametrize("kind", [Unsized, OutputsByChannel])
def test_a_network_that_cannot_be_pruned_says_so(kind: type[StreamingModel]) -> None:
    model = kind(FRONTEND, DaeUnet.Params.model_validate(SIZES)).eval()
    masks(model)
    with pytest.raises(ModelError, match=f"{kind.__name__} cannot be pruned") as caught:
        cut(model, 0.5, settings())
    assert "skip prune" in str(caught.value.hint)


@pytest.mark.slow
def test_until_the_measured_frame_time_holds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    dense = build("dae_unet", Frontend(), {"channels": [48, 64, 96], "latent": 192, "hidden": 192}).eval()
    most = 0.6 * measured_frame_us(dense, "host", tmp_path)
    pruned = prune_network(dense, settings(until={"frame_us": most}, max_ratio=0.75), tmp_path, Silent())
    assert pruned.report.frame_us is not None
    assert 0 < pruned.report.frame_us <= most
    assert pruned.report.ratio > 0
