import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from irbin.binary.activations import RPReLU
from irbin.binary.anneal import EdePhase
from irbin.binary.layers import BinaryConv2d, BinaryLinear, Method
from irbin.bits import unpack
from irbin.copies import copied
from irbin.errors import LowerError
from irbin.program.lower import freeze, lower
from irbin.program.types import TensorType


def binary_conv(method=None, **settings) -> BinaryConv2d:
    layer = nn.Conv2d(**{"in_channels": 3, "out_channels": 4, "kernel_size": 3, **settings})
    return BinaryConv2d.from_float(layer, method or Method(), EdePhase())


def binary_linear(n_in, n_out, method=None, bias=True) -> BinaryLinear:
    return BinaryLinear.from_float(nn.Linear(n_in, n_out, bias), method or Method(), EdePhase())


def ops(lowered) -> list[str]:
    return [node.op.removeprefix("aten.").split(".")[0] for node in lowered.program.nodes]


def trained_norm(n: int, **settings) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(n, **settings)
    torch.manual_seed(1)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 3)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


class TestBinaryLayers:
    @pytest.mark.slow
    def test_become_bits_under_the_names_of_the_state_dict(self):
        net = nn.Sequential(nn.Identity(), nn.Sequential(binary_conv(groups=1, in_channels=11)))
        lowered = lower(net, (11, 5, 5))
        assert ops(lowered) == ["bitpack", "bconv2d"]
        assert lowered.program.constants == {
            "1.0.bits": TensorType("uint8", (4, 3, 3, 2)),
            "1.0.scale_log2": TensorType("int8", (4,)),
            "1.0.bias": TensorType("float32", (4,)),
        }
        signs, scale = net[1][0].frozen()
        stored = lowered.tensors["1.0.bits"].numpy()
        assert torch.equal(torch.from_numpy(unpack(stored, 11)).movedim(-1, 1), signs)
        assert torch.equal(lowered.tensors["1.0.scale_log2"].float().exp2(), scale)

    @pytest.mark.slow
    def test_plain_keeps_its_scale_and_multiplies_after_the_integers(self):
        net = nn.Sequential(binary_conv(Method("plain")), nn.Flatten())
        lowered = lower(net, (3, 3, 3))
        assert ops(lowered)[:4] == ["sym_size", "bitpack", "bconv2d", "mul"]
        assert lowered.program.constants["0.scale"] == TensorType("float32", (4, 1, 1))
        assert torch.equal(lowered.tensors["0.scale"].flatten(), net[0].frozen()[1])
        assert "0.scale_log2" not in lowered.tensors

    @pytest.mark.slow
    @pytest.mark.parametrize("binarizer", ["libra", "plain"])
    def test_weights_alone_are_unpacked_by_a_node(self, binarizer):
        method = Method(binarizer, binary_activations=False)
        lowered = lower(nn.Sequential(binary_conv(method)), (3, 4, 4))
        scaled = ["mul"] if binarizer == "plain" else []
        assert ops(lowered) == ["bitunpack", *scaled, "conv2d"]
        assert lowered.program.constants["0.bias"] == TensorType("float32", (4,))

    @pytest.mark.slow
    def test_copied_padding_comes_before_the_bits(self):
        lowered = lower(nn.Sequential(binary_conv(padding=1, padding_mode="reflect")), (3, 4, 4))
        assert ops(lowered) == ["pad", "bitpack", "bconv2d"]
        assert lowered.program.nodes[2].args[6] == (0, 0, 0, 0)

    @pytest.mark.slow
    def test_zero_padding_stays_an_argument(self):
        lowered = lower(nn.Sequential(binary_conv(padding=(1, 2))), (3, 4, 4))
        assert lowered.program.nodes[1].args[6] == (2, 2, 1, 1)

    @pytest.mark.slow
    def test_one_layer_called_twice_is_stored_once_under_its_first_name(self):
        layer = binary_linear(5, 5)
        lowered = lower(nn.Sequential(nn.Flatten(), layer, layer), (5, 1, 1))
        assert ops(lowered).count("bgemm") == 2
        assert {name for name in lowered.tensors if name.endswith("bits")} == {"1.bits"}

    @pytest.mark.slow
    def test_networks_may_look_at_a_layers_settings_and_device(self):
        class Looks(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = binary_conv()

            def forward(self, x):
                x = self.conv(x.to(self.conv.weight.device, self.conv.weight.dtype))
                return x * self.conv.kernel_size[0] + self.conv.out_channels

        assert ops(lower(Looks(), (3, 4, 4)))[-3:] == ["bconv2d", "mul", "add"]

    @pytest.mark.slow
    @pytest.mark.parametrize("groups", [1, 3])
    def test_learned_thresholds_are_subtracted_in_front_of_the_bits(self, groups):
        method = Method(learned_threshold=True)
        net = nn.Sequential(binary_conv(method, in_channels=6, out_channels=9, groups=groups))
        nn.init.normal_(net[0].threshold)
        lowered = lower(net, (6, 5, 5))
        assert ops(lowered) == ["sub", "bitpack", "bconv2d"]
        assert lowered.program.constants["0.threshold"] == TensorType("float32", (6, 1, 1))
        assert torch.equal(lowered.tensors["0.threshold"].flatten(), net[0].threshold)

    @pytest.mark.slow
    def test_learned_thresholds_of_a_linear_layer_are_a_vector(self):
        layer = binary_linear(5, 3, Method(learned_threshold=True))
        nn.init.normal_(layer.threshold)
        lowered = lower(nn.Sequential(layer), (2, 4, 5))
        assert ops(lowered) == ["sub", "bitpack", "bgemm"]
        assert lowered.program.constants["0.threshold"] == TensorType("float32", (5,))
        assert torch.equal(lowered.tensors["0.threshold"], layer.threshold)

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["reflect", "zeros"])
    def test_learned_thresholds_come_before_any_padding(self, mode):
        layer = binary_conv(Method(learned_threshold=True), padding=1, padding_mode=mode)
        pad = ["pad"] if mode == "reflect" else []
        assert ops(lower(nn.Sequential(layer), (3, 4, 4))) == ["sub", *pad, "bitpack", "bconv2d"]

    @pytest.mark.slow
    @pytest.mark.parametrize("binarizer", ["libra-median", "libra-latent-median"])
    def test_a_balance_by_the_median_leaves_signs_and_exponents(self, binarizer):
        net = nn.Sequential(binary_conv(Method(binarizer)))
        with torch.no_grad():
            net[0].weight.mul_(9).exp_()  # skewed
        lowered = lower(net, (3, 4, 4))
        signs, scale = net[0].frozen()
        assert (signs < 0).flatten(1).sum(1).tolist() == [13] * 4
        stored = unpack(lowered.tensors["0.bits"].numpy(), 3)
        assert torch.equal(torch.from_numpy(stored).movedim(-1, 1), signs)
        assert torch.equal(lowered.tensors["0.scale_log2"].float().exp2(), scale)

    def test_freeze_replaces_every_alias(self):
        layer = binary_linear(5, 5)
        net = nn.Sequential(layer, layer)
        freeze(net)
        assert net[0] is net[1]
        assert type(net[0]).__name__ == "PackedLinear"


class TestRPReLU:
    @pytest.mark.slow
    def test_is_a_difference_a_prelu_and_a_sum_under_its_own_names(self):
        act = RPReLU(3, 0.25)
        for parameter in act.parameters():
            nn.init.normal_(parameter)
        lowered = lower(nn.Sequential(act), (3, 4, 4))
        assert ops(lowered) == ["reshape", "sub", "prelu", "reshape", "add"]
        assert {n: t.tolist() for n, t in lowered.tensors.items()} == {
            f"0.{n}": p.tolist() for n, p in act.named_parameters()
        }

    @pytest.mark.slow
    def test_in_half_precision_too_it_is_lowered_in_float32(self):
        lowered = lower(nn.Sequential(RPReLU(3, 0.25)).half(), (3, 4, 4))
        assert {str(node.type).split("[")[0] for node in lowered.program.nodes} == {"float32"}


class TestBatchNorm:
    @pytest.mark.slow
    @pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
    def test_is_one_product_and_one_sum_rounded_once(self, affine):
        norm = trained_norm(5, affine=affine)
        lowered = lower(nn.Sequential(norm), (5, 2, 2))
        assert ops(lowered) == ["mul", "add"]
        assert set(lowered.tensors) == {"0.multiply", "0.add"}
        weight = norm.weight.double() if affine else 1
        multiply = weight / (norm.running_var.double() + norm.eps).sqrt()
        add = (norm.bias.double() if affine else 0) - norm.running_mean.double() * multiply
        for name, exact in (("0.multiply", multiply), ("0.add", add)):
            stored = lowered.tensors[name]
            assert stored.shape == (5, 1, 1)
            assert torch.allclose(stored.flatten().double(), exact.detach(), rtol=6e-8, atol=0)

    @pytest.mark.slow
    def test_after_a_linear_layer_has_vectors(self):
        net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4))
        assert lower(net, (4, 1, 1)).program.constants["1.add"] == TensorType("float32", (4,))

    @pytest.mark.slow
    def test_root_without_a_name(self):
        assert set(lower(trained_norm(2), (2, 2, 2)).tensors) == {
            "batch_norm.multiply",
            "batch_norm.add",
        }

    @pytest.mark.slow
    def test_training_mode_of_the_source_does_not_matter_and_stays(self):
        net = nn.Sequential(trained_norm(2)).train()
        before = net[0].running_mean.clone()
        lower(net, (2, 2, 2))
        assert net.training
        assert torch.equal(net[0].running_mean, before)


class Doubled(nn.Module):
    def forward(self, weight):
        return torch.special.bessel_j0(weight) * 2  # no program names the operator


COMPUTED = {
    "weight norm": parametrizations.weight_norm,
    "weight norm by a hook": weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm by a hook": spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "pruned structures": lambda layer: prune.ln_structured(layer, "weight", 0.5, 2, 0),
    "a parametrization of one's own": lambda layer: parametrize.register_parametrization(
        layer, "weight", Doubled()
    ),
}


class TestComputedWeights:
    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
    @pytest.mark.parametrize("compute", COMPUTED.values(), ids=COMPUTED)
    @pytest.mark.parametrize("has_run", [False, True], ids=["fresh", "after a step"])
    def test_are_stored_as_what_they_are(self, compute, has_run):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
        compute(net[0])
        if has_run:
            net(torch.randn(2, 3, 4, 4)).sum().backward()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        lowered = lower(net, (3, 4, 4))
        assert set(lowered.tensors) == {"0.weight", "0.bias"}
        x = torch.randn(2, 3, 4, 4)
        weight, bias = lowered.tensors["0.weight"], lowered.tensors["0.bias"]
        with torch.no_grad():
            assert torch.allclose(F.conv2d(x, weight, bias).flatten(1), net.eval()(x), atol=1e-6)
        assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())

    @pytest.mark.slow
    def test_by_the_networks_own_code_are_folded_where_no_program_names_the_operator(self):
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.table = nn.Parameter(torch.rand(4))

            def forward(self, x):
                return x * torch.special.bessel_j0(self.table + 1)

        net = nn.Sequential(Own())
        lowered = lower(net, (3, 2, 4))
        assert ops(lowered) == ["mul"]
        (stored,) = lowered.tensors.values()
        assert torch.equal(stored, torch.special.bessel_j0(net[0].table.detach() + 1))

    def test_tensors_with_a_history_can_be_copied(self):
        net = nn.Sequential(nn.Conv2d(3, 4, 3))
        prune.l1_unstructured(net[0], "weight", 0.5)
        net(torch.randn(2, 3, 4, 4))
        with pytest.raises(RuntimeError, match="deepcopy"):
            copy.deepcopy(net)
        assert torch.equal(copied(net)[0].weight, net[0].weight)


class TestInstanceNorm:
    @pytest.mark.slow
    @pytest.mark.parametrize("affine", [True, False])
    def test_with_statistics_of_each_image_is_a_group_norm(self, affine):
        net = nn.Sequential(nn.InstanceNorm2d(4, affine=affine))
        lowered = lower(net, (4, 5, 5))
        assert ops(lowered) == ["group_norm"]
        x = 3 * torch.randn(2, 4, 5, 5) + 1
        found = F.group_norm(x, 4, *([net[0].weight, net[0].bias] if affine else []))
        assert torch.allclose(found, net(x), atol=1e-5)

    @pytest.mark.slow
    def test_with_running_statistics_is_a_batch_norm(self):
        norm = nn.InstanceNorm2d(4, track_running_stats=True).train()
        norm(torch.randn(2, 4, 5, 5))
        assert ops(lower(nn.Sequential(norm), (4, 5, 5))) == ["mul", "add"]


class TestWhatIsLeftOut:
    @pytest.mark.slow
    def test_dropout_identities_and_unused_branches(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc, self.aux = nn.Linear(4, 2), nn.Linear(4, 2)
                self.drop = nn.Dropout(0.5)

            def forward(self, x):
                x = self.drop(x.flatten(1)).contiguous().clone()
                self.aux(x)
                return self.fc(x.detach())

        lowered = lower(Net(), (4, 1, 1))
        assert ops(lowered) == ["sym_size", "reshape", "linear"]
        assert set(lowered.tensors) == {"fc.weight", "fc.bias"}

    @pytest.mark.slow
    def test_literal_tensors_and_unsaved_buffers_are_kept(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("offset", torch.ones(1, 3, 1, 1), persistent=False)

            def forward(self, x):
                return x * torch.tensor([1.0, 2.0]) + self.offset

        lowered = lower(Net(), (3, 2, 2))
        assert lowered.tensors["offset"].shape == (1, 3, 1, 1)
        assert [t.tolist() for n, t in lowered.tensors.items() if n != "offset"] == [[1.0, 2.0]]


class TestShapes:
    @pytest.mark.slow
    def test_batch_is_n(self):
        class Windows(nn.Module):
            def forward(self, x):
                rows = x.unfold(2, 2, 2).permute(0, 2, 1, 3, 4).reshape(-1, 12)
                return rows.reshape(x.shape[0], -1)

        program = lower(Windows(), (3, 4, 2)).program
        shapes = [str(node.type) for node in program.nodes]
        assert "float32[2*N,12]" in shapes
        assert shapes[-1] == "float32[N,24]"

    @pytest.mark.slow
    def test_same_padding_of_an_odd_input_is_uneven(self):
        class Conv2dSame(nn.Conv2d):
            pass

        layer = Conv2dSame(3, 4, 3, stride=2)
        net = nn.Sequential(BinaryConv2d.from_float(layer, Method(), EdePhase()))
        node = lower(net, (3, 6, 7)).program.nodes[1]
        assert node.args[6] == (1, 1, 0, 1)


class TestRefusals:
    @pytest.mark.parametrize("value", [float("nan"), float("-inf")])
    def test_broken_thresholds_and_offsets_are_named(self, value):
        net = nn.Sequential(RPReLU(3, 0.25), binary_conv(Method(learned_threshold=True)))
        for name in ("1.threshold", "0.in_offset", "0.weight", "0.out_offset"):
            with torch.no_grad():
                net.get_parameter(name)[1] = value
            with pytest.raises(LowerError, match=rf"`{name}`: expected finite weights"):
                lower(net, (3, 4, 4))
            with torch.no_grad():
                net.get_parameter(name)[1] = 0

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_broken_weights_are_named(self, value):
        net = nn.Sequential(nn.ReLU(), binary_conv())
        with torch.no_grad():
            net[1].weight[0, 0, 0, 0] = value
        with pytest.raises(LowerError, match=r"`1\.weight`: expected finite weights"):
            lower(net, (3, 4, 4))

    def test_broken_statistics_are_named(self):
        net = nn.Sequential(trained_norm(3))
        net[0].running_var[1] = float("nan")
        with pytest.raises(LowerError, match=r"`0\.running_var`"):
            lower(net, (3, 4, 4))

    @pytest.mark.slow
    def test_negative_variance_gives_no_finite_constant(self):
        net = nn.Sequential(trained_norm(3))
        net[0].running_var[1] = -1
        with pytest.raises(LowerError, match="batch norm `0`: its statistics give no finite"):
            lower(net, (3, 4, 4))

    @pytest.mark.slow
    def test_an_unknown_operator_is_named_with_its_layer(self):
        class Odd(nn.Module):
            def forward(self, x):
                return torch.special.bessel_j0(x)

        message = (
            r"operator `aten\.special_bessel_j0\.default` in `1` "
            r"\(program/test_lower\.py:\d+\) is not one that a packed network may use"
        )
        with pytest.raises(LowerError, match=message):
            lower(nn.Sequential(nn.ReLU(), Odd()), (3, 4, 4))

    def test_a_network_bound_to_its_batch_is_told_so(self):
        class Fixed(nn.Module):
            def forward(self, x):
                return x.reshape(2, 48)

        with pytest.raises(LowerError, match="bound to the batch it is traced with"):
            lower(Fixed(), (3, 4, 4))

    def test_a_network_that_branches_on_values_is_told_so(self):
        class Branch(nn.Module):
            def forward(self, x):
                return x if x.sum() > 0 else -x

        with pytest.raises(LowerError, match=r"`torch\.export` cannot follow the network"):
            lower(Branch(), (3, 4, 4))

    def test_it_is_one_line_and_torch_prints_nothing_beside_it(self, capfd):
        class Branch(nn.Module):
            def forward(self, x):
                return x if x.sum() > 0 else -x

        with pytest.raises(LowerError) as caught:
            lower(nn.Sequential(nn.ReLU(), Branch()), (3, 4, 4))
        message = str(caught.value)
        assert "program/test_lower.py:" in message
        assert "depends on the images" in message
        assert "\n" not in message
        assert capfd.readouterr() == ("", "")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "drop",
        [
            lambda x: F.dropout(x),
            lambda x: F.dropout(x + 1, 0.5, True, True),
            lambda x: F.rrelu_(x + 1, 0.1, 0.3, True),
            lambda x: x + torch.empty_like(x).normal_(),
            lambda x: x + torch.randn_like(x),
            lambda x: x * torch.rand(()),
        ],
        ids=["dropout", "in place", "rrelu", "filled", "noise like the images", "noise alone"],
    )
    def test_random_numbers_in_evaluation_mode(self, drop):
        class Noisy(nn.Module):
            def forward(self, x):
                return drop(x)

        message = r"^`aten\..*` in `0` \(program/test_lower\.py:\d+\) draws random numbers in eval"
        with pytest.raises(LowerError, match=message):
            lower(nn.Sequential(Noisy()), (3, 4, 4))

    @pytest.mark.slow
    def test_in_place_rrelu_is_a_leaky_relu(self):
        class Leaks(nn.Module):
            def forward(self, x):
                return F.rrelu_(x + 1, 0.1, 0.3)

        assert ops(lower(Leaks(), (3, 4, 4))) == ["add", "leaky_relu"]

    @pytest.mark.slow
    def test_tensors_that_a_forward_keeps_are_no_warning(self):
        class Keeps(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(4))
                self.kept = {}

            def forward(self, x):
                if "cpu" not in self.kept:
                    self.kept["cpu"] = self.weight * 2
                return x + self.kept["cpu"]

        assert ops(lower(Keeps(), (3, 4, 4)))[-1] == "add"

    @pytest.mark.slow
    def test_dropout_that_never_drops_is_nothing(self):
        class Never(nn.Module):
            def forward(self, x):
                return F.dropout(x, 0.0, True) + 1

        assert ops(lower(Never(), (3, 4, 4)))[-1] == "add"

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("odd", "words"),
        [("size", "4"), ("none", "None"), ("number", "0.5"), ("batch", "a size")],
    )
    def test_a_result_that_is_no_tensor_is_named(self, odd, words):
        class Two(nn.Module):
            def forward(self, x):
                values = {"size": x.shape[2], "none": None, "number": 0.5, "batch": x.shape[0]}
                return x * 2, {"aux": [x + 1, values[odd]]}

        message = (
            "expected a network that returns tensors alone, but `output[1]['aux'][1]` is " + words
        )
        with pytest.raises(LowerError) as caught:
            lower(Two(), (3, 4, 4))
        assert str(caught.value) == message

    @pytest.mark.slow
    def test_any_number_of_arguments_takes_the_images(self):
        class Any(nn.Module):
            def forward(self, *args, **kwargs):
                (x,) = args
                return x * kwargs.get("factor", 2)

        assert ops(lower(Any(), (3, 4, 4))) == ["mul"]

    @pytest.mark.parametrize("how", ["with", "decorator"])
    def test_an_autocast_is_named_by_its_line(self, how):
        class With(nn.Module):
            def forward(self, x):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    y = x @ x
                return y.float()

        class Decorated(nn.Module):
            @torch.autocast("cpu", dtype=torch.bfloat16)
            def forward(self, x):
                return x @ x

        message = (
            r"^`torch.autocast` in the forward \(program/test_lower\.py:\d+\) computes in "
            r"bfloat16, but a packed network computes in float32; take it out"
        )
        with pytest.raises(LowerError, match=message):
            lower({"with": With, "decorator": Decorated}[how](), (3, 4, 4))

    @pytest.mark.slow
    def test_an_autocast_that_is_off_is_nothing(self):
        class Off(nn.Module):
            def forward(self, x):
                with torch.autocast("cpu", enabled=False):
                    return x * 2

        assert ops(lower(Off(), (3, 4, 4))) == ["mul"]

    @pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
    def test_a_script_module_is_named(self):
        part = torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()))
        with pytest.raises(LowerError, match=r"^`1` is a ScriptModule .* put there what it was"):
            lower(nn.Sequential(nn.Identity(), part), (3, 4, 4))

    @pytest.mark.slow
    def test_a_network_that_writes_to_its_buffers_in_evaluation_mode(self):
        class Counts(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("seen", torch.zeros(()))

            def forward(self, x):
                self.seen.add_(1)
                return x * self.seen

        message = "expected a network that changes nothing in evaluation mode, .* to `seen`$"
        with pytest.raises(LowerError, match=message):
            lower(Counts(), (3, 4, 4))


class TestOutputs:
    @pytest.mark.slow
    def test_lists_tuples_and_dictionaries_are_taken_apart_in_order(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.table = nn.Parameter(torch.ones(2))
                self.same = self.table

            def forward(self, x):
                y = x.sin()
                return {"b": y.cos(), "a": [y, (x, self.table)]}, self.same, y

        program = lower(Net(), (3, 4, 4)).program
        assert program.outputs == ("cos", "sin", "x", "table", "table", "sin")
        assert [node.name for node in program.nodes] == ["sin", "cos"]
        assert list(program.constants) == ["table"]
