"""Networks whose forward was rewritten are copied, pickled and saved whole, as sources are."""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

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


def test_a_part_has_a_mode_of_its_own():
    module = converted(Whole()).train()
    x = torch.randn(8, *SIZE)
    assert not torch.equal(module(x), module(x))
    module.part.eval()
    assert torch.equal(module(x), module(x))
    module.eval().part.train()
    assert not torch.equal(module(x), module(x))


def test_what_the_source_can_do_and_the_rewritten_forward_cannot_is_told(caplog):
    converted(Functional())
    told = [r.getMessage() for r in caplog.records if r.name == "irbin"]
    assert [t for t in told if "`more`, optional in the source, cannot be given" in t]


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
