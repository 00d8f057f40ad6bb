"""Networks whose forward was rewritten are copied, pickled and saved whole, as sources are."""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves

import irbin
from irbin import SourceOptions

SIZE = (3, 8, 8)


class Functional(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.stem, self.n0 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.c1, self.n1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, classes)

    def forward(self, x, more=None):
        x = F.relu(self.n1(self.c1(F.relu(self.n0(self.stem(x))))))
        x = F.dropout(x, 0.5, self.training)
        x = self.head(x.mean((2, 3)))
        return x if more is None else x + more


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        return F.dropout(self.conv(x), 0.5, self.training)


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.part = nn.Conv2d(3, 16, 3, padding=1), Part()
        self.last, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 3)

    def forward(self, x):
        x = F.relu(self.last(F.relu(self.part(F.relu(self.stem(x))))))
        return self.head(x.mean((2, 3)))


def converted(source, **options):
    torch.manual_seed(0)
    how = SourceOptions(input_size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
    return irbin.convert(source, source_options=how, **options).module.eval()


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = {
    "pickled": lambda m: pickle.loads(pickle.dumps(m)),
    "saved": saved,
    "copied": copy.deepcopy,
    "copied, then pickled": lambda m: pickle.loads(pickle.dumps(copy.deepcopy(m))),
    "pickled twice": lambda m: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(m)))),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("shortcut", ["none", "bireal"])
def test_a_rewritten_network_answers_the_same_afterwards(way, shortcut):
    module = converted(Functional(), shortcut=shortcut)
    again = way(module)
    x = torch.randn(2, *SIZE)
    assert type(again).__name__ == "Functional"
    assert isinstance(again, Functional)
    with torch.no_grad():
        assert torch.equal(again(x), module(x))
    assert all(layer is not again.c1 for layer in module.modules())
    assert again.c1.phase is again.ede


@pytest.mark.slow
def test_copies_train_apart():
    module = converted(Functional())
    again = pickle.loads(pickle.dumps(module)).train()
    before = module.c1.weight.clone()
    again(torch.randn(4, *SIZE)).sum().backward()
    torch.optim.SGD(again.parameters(), 0.1).step()
    again.ede.set_progress(1.0)
    assert torch.equal(module.c1.weight, before)
    assert float(module.ede.t) != float(again.ede.t)


def _answer(module, x, queue):
    with torch.no_grad():
        queue.put(module(x).tolist())


@pytest.mark.slow
def test_spawned_workers_get_it():
    module, x = converted(Functional()), torch.ones(1, *SIZE)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    worker = context.Process(target=_answer, args=(module, x, queue))
    worker.start()
    found = queue.get()
    worker.join()
    with torch.no_grad():
        assert torch.allclose(torch.tensor(found), module(x), atol=1e-5)


@pytest.mark.slow
def test_a_part_has_a_mode_of_its_own():
    module = converted(Whole()).train()
    x = torch.randn(8, *SIZE)
    assert not torch.equal(module(x), module(x))
    module.part.eval()
    assert torch.equal(module(x), module(x))
    module.eval().part.train()
    assert not torch.equal(module(x), module(x))


class Optional(Functional):
    """What a forward may do with further arguments."""

    def forward(self, images, more=None, *, times=1, maps=False, hint=None):
        x = F.relu(self.n0(self.stem(images)))
        if hint is not None:
            x = x * hint["scale"] + torch.arange(16.0).view(1, 16, 1, 1).div(100)
        x = self.n1(self.c1(x))
        features = F.relu(x)
        y = self.head(features.mean((2, 3)))
        y = y if more is None else y + more
        return (y * times, features) if maps else y * times


MORE = torch.arange(4.0)
CALLS = {
    "a tensor by place": ((MORE,), {}),
    "a tensor by name": ((), {"more": MORE}),
    "the default itself": ((None,), {"times": 1}),
    "a number": ((), {"times": 3}),
    "a flag": ((MORE,), {"maps": True}),
    "tensors in a dictionary": ((), {"hint": {"scale": torch.tensor(2.0)}}),
    "all": ((MORE,), {"times": 2, "maps": True, "hint": {"scale": torch.tensor(0.5)}}),
}


def expected(module, images, *args, **kwargs):
    """The source's own forward on the converted layers, its first ReLU a Hardtanh."""
    real, calls = F.relu, []

    def relu(x):
        calls.append(x)
        return F.hardtanh(x) if len(calls) == 1 else real(x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "relu", relu)
        return Optional.forward(module, images, *args, **kwargs)


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("args", "kwargs"), CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("way", [lambda m: m, *WAYS.values()], ids=["as made", *WAYS])
def test_further_arguments_mean_what_they_mean_in_the_source(args, kwargs, way):
    module, x = way(converted(Optional())), torch.randn(2, *SIZE)
    for _ in range(2):
        assert equal(module(x, *args, **kwargs), expected(module, x, *args, **kwargs))
    again = copy.deepcopy(module)
    assert equal(again(x, *args, **kwargs), module(x, *args, **kwargs))
    assert equal(module(images=x), module(x))


@pytest.mark.slow
def test_a_graph_serves_other_tensors_and_other_weights_and_gradients_flow():
    module, x = converted(Optional()).train(), torch.randn(4, *SIZE)
    module(x, torch.zeros(4))
    with torch.no_grad():
        module.head.weight.mul_(2)
        module.eval()
        assert equal(module(x, MORE), expected(module, x, MORE))
        for times in range(40):
            assert equal(module(x, times=times), expected(module, x, times=times))
    more = torch.zeros(4, requires_grad=True)
    module.train()(x, more).sum().backward()
    assert torch.equal(more.grad, torch.full((4,), 4.0))
    assert bool(module.c1.weight.grad.any())


class Branches(Functional):
    def forward(self, x, mask=None, extra=False):
        x = F.relu(self.n0(self.stem(x)))
        if extra:
            x = F.relu(x + 1)
        if mask is not None and mask.sum() > 0:
            x = x * 2
        return self.head(F.relu(self.n1(self.c1(x))).mean((2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        (
            {"mask": torch.ones(1)},
            "^`Branches`: `mask` cannot be given .* .at rewriting/test_instal",
        ),
        ({"extra": True}, "^`Branches`: `extra` cannot be given .* calls other activations"),
        ({"mask": object()}, "^`mask`: expected tensors, numbers, .* got a `object`"),
    ],
)
def test_arguments_that_a_graph_cannot_have_are_named(kwargs, words):
    module, x = converted(Branches()), torch.randn(2, *SIZE)
    with pytest.raises(irbin.IrbinError, match=words) as caught:
        module(x, **kwargs)
    assert "\n" not in str(caught.value)
    assert module(x).shape == (2, 4)


def test_what_the_source_can_do_and_a_forward_with_shortcuts_cannot_is_told(caplog):
    module = converted(Functional(), shortcut="bireal")
    told = [r.getMessage() for r in caplog.records if r.name == "irbin"]
    assert [t for t in told if "`more`, optional in the source, cannot be given" in t]
    with pytest.raises(irbin.IrbinError, match=r"`more` cannot be given .*`shortcut=bireal`"):
        module(torch.randn(2, *SIZE), MORE)


@pytest.mark.slow
def test_a_network_with_further_arguments_is_exported_and_compiled(tmp_path):
    how = SourceOptions(input_size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
    network, x = irbin.convert(Optional(), source_options=how), torch.randn(3, *SIZE)
    irbin.export(network, tmp_path / "packed")
    with torch.no_grad():
        wanted = network.module.eval()(x)
        assert torch.allclose(irbin.load(tmp_path / "packed")(x), wanted, atol=1e-4)
        compiled = torch.compile(network.module, backend="eager")
        assert torch.allclose(compiled(x), wanted)
        assert torch.allclose(compiled(x, MORE), network.module(x, MORE))


def test_the_head_can_be_cut_off():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.act = nn.Conv2d(3, 16, 3), nn.ReLU()
            self.conv, self.norm = nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16)
            self.pool, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
            self.head = nn.Linear(16, 4)

        def forward(self, x):
            x = self.norm(self.conv(self.act(self.stem(x))))
            return self.head(self.flat(self.pool(x)))

    module = converted(Plain())
    assert isinstance(list(module.children())[-1], nn.Linear)
    features = nn.Sequential(*list(module.children())[:-1])
    assert features(torch.randn(2, *SIZE)).shape == (2, 16)


class Counting(Functional):
    """Writes a buffer in training alone, as batch norm's `num_batches_tracked`."""

    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.n.add_(1)
        return super().forward(x)


class Branching(Functional):
    """Gives other numbers in training; a constant of its own in evaluation."""

    def forward(self, x):
        x = F.relu(self.n1(self.c1(F.relu(self.n0(self.stem(x))))))
        x = x * 3 if self.training else x + torch.tensor(0.5)
        return self.head(x.mean((2, 3)))


class Shifting(Functional):
    """Hands a rate to a function as a number that is 0 in evaluation, among further arguments."""

    def forward(self, x, more=None):
        x = F.relu(self.n1(self.c1(F.relu(self.n0(self.stem(x))))))
        x = F.dropout(x, 0.9 if self.training else 0.0, True)
        x = self.head(x.mean((2, 3)))
        return x if more is None else x + more


class OtherCalls(Functional):
    """Calls another ReLU in evaluation, which no plan knows of."""

    def forward(self, x):
        x = F.relu(self.n1(self.c1(F.relu(self.n0(self.stem(x))))))
        x = self.head(x.mean((2, 3)))
        return x if self.training else F.relu(x) - F.relu(-x)


def test_what_is_written_in_training_alone_is_so_when_rewritten(tmp_path):
    how = SourceOptions(input_size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
    network = irbin.convert(Counting(), source_options=how)
    x = torch.randn(2, *SIZE)
    module = network.module.eval()
    before = float(module.n)
    expected = module(x)
    assert float(module.n) == before
    module.train()(x)
    assert float(module.n) == before + 1
    module.eval().n.fill_(0)
    irbin.export(network, tmp_path / "packed")
    assert torch.allclose(irbin.load(tmp_path / "packed")(x), module(x), atol=1e-4)
    assert expected.shape == (2, 4)


def test_branches_on_training_are_those_of_the_mode():
    source = Branching().eval()
    module, x = converted(copy.deepcopy(source)), torch.randn(4, *SIZE)
    for twin in (module, saved(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        seen = []
        twin.head.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        twin.n0.eval(), twin.n1.eval()
        twin.training = False
        twin(x)
        twin.training = True
        twin(x)
        evaluated, trained = seen
        assert torch.allclose(trained / 3 + 0.5, evaluated, atol=1e-5)


def test_so_they_are_with_further_arguments():
    module, x = converted(Shifting()), torch.randn(4, *SIZE)
    more = torch.ones(4, 4)
    assert torch.allclose(module(x, more), module(x) + 1, atol=1e-6)
    module.train()
    torch.manual_seed(0)
    assert not torch.equal(module(x, more), module(x, more))
    module.eval()
    assert torch.equal(module(x, more), module(x, more))


def test_activations_of_one_mode_alone_are_refused_in_one_line():
    with pytest.raises(irbin.IrbinError, match=r"`OtherCalls`: its branches on `self\.training`"):
        converted(OtherCalls())
