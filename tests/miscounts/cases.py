"""Networks that parameter counters are known to count wrong; `true` is the number counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """A network, its example input, and its number of parameters; `issue` is owner/repository#number on GitHub."""

    issue: str
    what: str
    make: Callable[[], nn.Module]
    example: tuple[int, ...]
    true: int
    whole: bool = False  # the example input is integers, for an embedding


class Holding(nn.Module):
    """A module made of named modules and parameters, with a given forward function."""

    def __init__(self, does: Callable[[Holding, Tensor], Tensor], **parts: object) -> None:
        super().__init__()
        self.does = does
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, x)


def numbers(*shape: int, trained: bool = True) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape), requires_grad=trained)


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def tied(other: nn.Module, module: nn.Module) -> nn.Module:
    module.weight = other.weight
    return module


def tied_head(words: int, width: int) -> nn.Module:
    table = nn.Embedding(words, width)
    return nn.Sequential(table, tied(table, nn.Linear(width, words, bias=False)))


def shared_conv(heads: int) -> nn.Module:
    stem = nn.Conv2d(3, 4, 3, padding=1)
    branches = nn.ModuleList(nn.Sequential(stem, nn.Conv2d(4, 2, 1)) for _ in range(heads))
    return Holding(lambda self, x: sum(branch(x) for branch in self.branches), branches=branches)


def shared_activation() -> nn.Module:
    act = nn.ReLU()

    def block() -> nn.Module:
        layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        return Holding(lambda self, x: self.act(self.layers[1](self.act(self.layers[0](x)))), layers=layers, act=act)

    return nn.Sequential(*(block() for _ in range(3)))


def twice(layer: nn.Module) -> nn.Module:
    return Holding(lambda self, x: self.layer(self.layer(x)), layer=layer)


def encoder_and_decoder() -> nn.Module:
    table = nn.Embedding(20, 6)
    parts = {"encoder": table, "decoder": tied(table, nn.Embedding(20, 6)), "mixing": nn.Linear(6, 6)}
    return Holding(lambda self, x: self.mixing(self.encoder(x) + self.decoder(x)), **parts)


def four_convolutions_of_one_weight() -> nn.Module:
    first = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    return nn.Sequential(first, *(tied(first, nn.Conv2d(3, 3, 3, padding=1, bias=False)) for _ in range(3)))


def one_linear_in_two() -> nn.Module:
    first, second = (Holding(lambda self, x: self.linear(x), linear=nn.Linear(10, 10)) for _ in range(2))
    second.linear = first.linear
    return nn.Sequential(first, second)


def layer_and_block() -> nn.Module:
    linear = nn.Linear(10, 10)
    block = Holding(lambda self, x: self.linear(x), linear=linear)
    return Holding(lambda self, x: self.block(self.linear(x)), linear=linear, block=block)


def projections() -> nn.Module:
    first = nn.Linear(5, 7)
    return nn.Sequential(first, nn.Linear(7, 5), tied(first, nn.Linear(5, 7)))


def rezero() -> nn.Module:
    def does(self: Holding, x: Tensor) -> Tensor:
        return self.first(x) * self.weights[0] + self.second(x) * self.weights[1]

    return Holding(does, weights=numbers(2), first=nn.Linear(2, 2), second=nn.Linear(2, 2))


def graph_convolution(inputs: int, outputs: int) -> nn.Module:
    linear = nn.Linear(inputs, outputs, bias=False)
    return Holding(lambda self, x: self.lin(x) + self.bias, lin=linear, bias=numbers(outputs))


def called_by_forward() -> nn.Module:
    inner = Holding(lambda self, x: self.fc.forward(x), fc=nn.Linear(3, 5))
    return Holding(lambda self, x: self.fc(self.layer.forward(x)), layer=inner, fc=nn.Linear(5, 5))


def lstm() -> nn.Module:
    return Holding(lambda self, x: self.lstm(x)[0], lstm=nn.LSTM(5, 5))


def attention(width: int, heads: int) -> nn.Module:
    inner = nn.MultiheadAttention(width, heads, batch_first=True)
    return Holding(lambda self, x: self.attention(x, x, x)[0], attention=inner)


def other_names() -> nn.Module:
    """Make a layer whose parameters are called neither weight nor bias."""
    return nn.Sequential(Holding(lambda self, x: x * self.gain + self.shift, gain=numbers(6), shift=numbers(6)))


def capsules() -> nn.Module:
    """Make capsules of 4 numbers that predict capsules of 6, by a tensor called W."""
    return Holding(lambda self, x: torch.einsum("bic,ijcd->bjd", x, self.W), W=numbers(5, 3, 4, 6))


def two_kernels() -> nn.Module:
    """Make a 1x1 and a 3x3 kernel that functions use, not layers."""

    def does(self: Holding, x: Tensor) -> Tensor:
        conv = nn.functional.conv2d
        return conv(conv(x, self.weight1), self.weight2, padding=1)

    return nn.Sequential(Holding(does, weight1=numbers(4, 3, 1, 1), weight2=numbers(3, 4, 3, 3)))


def deep(levels: int) -> nn.Module:
    net: nn.Module = nn.Linear(4, 4)
    for _ in range(levels):
        net = nn.Sequential(net, nn.ReLU())
    return net


def adapted() -> nn.Module:
    """Make a frozen layer with a LoRA adapter of rank 2."""
    does = lambda self, x: self.base(x) + self.b(self.a(x))  # noqa: E731
    parts = {"base": frozen(nn.Linear(8, 8)), "a": nn.Linear(8, 2, bias=False), "b": nn.Linear(2, 8, bias=False)}
    return Holding(does, **parts)


def sharded_stages() -> nn.Module:
    """Make a pipeline whose first and last stage share one table under two names."""
    table = numbers(12, 4)
    first = Holding(lambda self, x: nn.functional.embedding(x, self.table), table=table)
    last = Holding(lambda self, x: x @ self.table.T, table=table)
    return nn.Sequential(first, nn.Linear(4, 4), last)


def encoder_layer() -> nn.Module:
    return frozen(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True))


IMAGE = (1, 3, 8, 8)
CASES = (
    Case("TylerYep/torchinfo#377", "embedding and head tied", lambda: tied_head(50, 8), (1, 6), 50 * 8, True),
    Case("TylerYep/torchinfo#322", "one stem under two branches", lambda: shared_conv(2), IMAGE, 112 + 2 * 10),
    Case("TylerYep/torchinfo#396", "one activation in all blocks", shared_activation, (1, 4), 6 * 20),
    Case("TylerYep/torchinfo#358", "encoder and decoder embed by one table", encoder_and_decoder, (1, 6),
         120 + 42, True),
    Case("TylerYep/torchinfo#397", "a weight tied, biases of their own", projections, (1, 5), 35 + 7 + 40 + 7),
    Case("TylerYep/torchinfo#54", "nothing but a parameter", lambda: Holding(lambda s, x: x @ s.w, w=numbers(16, 64)),
         (1, 16), 1024),
    Case("TylerYep/torchinfo#142", "a parameter beside a convolution",
         lambda: Holding(lambda s, x: s.conv(x) * s.w.sum(), w=numbers(1024), conv=nn.Conv2d(3, 6, 3)), IMAGE,
         1024 + 168),
    Case("TylerYep/torchinfo#84", "parameters before a layer",
         lambda: Holding(lambda s, x: s.fc(x @ s.a + s.b), a=numbers(128, 64), b=numbers(64), fc=nn.Linear(64, 32)),
         (1, 128), 8192 + 64 + 2080),
    Case("TylerYep/torchinfo#137", "a container with a parameter of its own", rezero, (1, 2), 2 + 6 + 6),
    Case("TylerYep/torchinfo#366", "forward called by its name", called_by_forward, (1, 3), 20 + 30),
    Case("TylerYep/torchinfo#99", "trained and frozen in one module",
         lambda: Holding(lambda s, x: s.fc(x) * s.w + s.b, fc=nn.Linear(10, 10), w=numbers(10),
                         b=numbers(10, trained=False)), (1, 10), 110 + 20),
    Case("TylerYep/torchinfo#61", "deeper than the depth that is shown", lambda: deep(6), (1, 4), 20),
    Case("TylerYep/torchinfo#122", "a graph convolution: a bias of its own around a linear layer",
         lambda: nn.Sequential(graph_convolution(5, 2), nn.Linear(2, 1)), (1, 5), 10 + 2 + 3),
    Case("TylerYep/torchinfo#190", "a list of parameters beside layers",
         lambda: Holding(lambda s, x: s.expert(x) + sum(x @ gate for gate in s.gates), expert=nn.Linear(6, 4),
                         gates=nn.ParameterList([numbers(6, 4), numbers(6, 4)])), (1, 6), 28 + 2 * 24),
    Case("TylerYep/torchinfo#117", "a lazy layer", lambda: nn.Sequential(nn.LazyLinear(3)), (1, 7), 24),
    Case("sksq96/pytorch-summary#37", "a convolution called twice", lambda: twice(nn.Conv2d(3, 3, 3, padding=1)),
         IMAGE, 84),
    Case("sksq96/pytorch-summary#201", "a block called twice",
         lambda: twice(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU())), (1, 1, 16, 16), 10),
    Case("sksq96/pytorch-summary#148", "a scale before a convolution",
         lambda: Holding(lambda s, x: s.conv(x * s.p), p=numbers(1), conv=nn.Conv1d(1, 2, 3)), (1, 1, 10), 1 + 8),
    Case("sksq96/pytorch-summary#131", "branches that share their layers", lambda: shared_conv(3), IMAGE, 112 + 3 * 10),
    Case("sksq96/pytorch-summary#143", "an LSTM", lstm, (3, 1, 5), 4 * (25 + 25 + 5 + 5)),
    Case("sksq96/pytorch-summary#142", "called neither weight nor bias", other_names, (1, 6), 12),
    Case("sksq96/pytorch-summary#65", "a layer of the user's", lambda: nn.Sequential(capsules()), (1, 5, 4), 360),
    Case("sksq96/pytorch-summary#95", "two kernels of the user's", two_kernels, IMAGE, 12 + 108),
    Case("sksq96/pytorch-summary#165", "several outputs",
         lambda: Holding(lambda s, x: torch.cat((s.one(x), s.two(x)), 1), one=nn.Conv2d(1, 1, 3),
                         two=nn.Conv2d(1, 2, 3)), (1, 1, 8, 8), 10 + 20),
    Case("sksq96/pytorch-summary#25", "a module of the user's around others",
         lambda: Holding(lambda s, x: s.conv(x) * s.scale, conv=nn.Conv2d(3, 2, 1), scale=numbers(2, 1, 1)), IMAGE,
         8 + 2),
    Case("nmhkahn/torchsummaryX#15", "a root's own scale",
         lambda: Holding(lambda s, x: s.conv(x) * s.p, p=numbers(1), conv=nn.Conv1d(1, 2, 3)), (1, 1, 10), 9),
    Case("amarczew/pytorch_model_summary#3", "a Siamese network",
         lambda: Holding(lambda s, x: s.fc((s.conv(x) - s.conv(x.flip(0))).mean((2, 3))), conv=nn.Conv2d(3, 6, 5),
                         fc=nn.Linear(6, 1)), IMAGE, 456 + 7),
    Case("graykode/modelsummary#4", "two layers in turn, for each of two inputs",
         lambda: Holding(lambda s, x: s.b(s.a(x)) - s.b(s.a(-x)), a=nn.Linear(4, 2), b=nn.Linear(2, 1)),
         (1, 4), 10 + 3),
    Case("Lyken17/pytorch-OpCounter#71", "an odd number over 2**24, where float32 has none",
         lambda: nn.Sequential(nn.Linear(4099, 4097, bias=False)), (1, 4099), 4099 * 4097),
    Case("Lyken17/pytorch-OpCounter#98", "one layer in two modules", one_linear_in_two, (1, 10), 110),
    Case("Lyken17/pytorch-OpCounter#197", "attention", lambda: attention(8, 2), (1, 5, 8), 4 * 64 + 4 * 8),
    Case("Lyken17/pytorch-OpCounter#205", "an embedding before a layer",
         lambda: nn.Sequential(nn.Embedding(30, 8), nn.LayerNorm(8), nn.Linear(8, 8)), (1, 4), 240 + 16 + 72, True),
    Case("Lyken17/pytorch-OpCounter#217", "a bare linear layer", lambda: nn.Linear(10, 11), (1, 10), 121),
    Case("ultralytics/thop#115", "a bare convolution", lambda: nn.Conv2d(3, 10, 3), IMAGE, 280),
    Case("ultralytics/thop#116", "a bare norm", lambda: nn.BatchNorm2d(3), IMAGE, 6),
    Case("ultralytics/thop#143", "four layers of one weight, and a branch that is never called",
         lambda: Holding(lambda s, x: s.used(x), used=four_convolutions_of_one_weight(), unused=nn.Linear(9, 9)),
         IMAGE, 81 + 90),
    Case("ultralytics/thop#148", "attention with its projection", lambda: nn.Sequential(attention(12, 3)), (1, 5, 12),
         4 * 144 + 4 * 12),
    Case("sovrasov/flops-counter.pytorch#75", "all frozen but the classifier",
         lambda: nn.Sequential(frozen(nn.Conv2d(3, 8, 3)), nn.Flatten(), nn.Linear(288, 2)), IMAGE, 224 + 578),
    Case("sovrasov/flops-counter.pytorch#42", "modules that the counter does not know",
         lambda: nn.Sequential(nn.Conv3d(1, 2, 3), Holding(lambda s, x: x * s.g, g=numbers(2, 1, 1, 1))),
         (1, 1, 4, 4, 4), 56 + 2),
    Case("sovrasov/flops-counter.pytorch#101", "a frozen transformer layer", encoder_layer, (1, 4, 16),
         1088 + 544 + 528 + 64),
    Case("MrYxJ/calculate-flops.pytorch#28", "none of it is trained", lambda: frozen(nn.Sequential(nn.Linear(6, 6))),
         (1, 6), 42),
    Case("deepspeedai/DeepSpeed#2065", "half of it is trained",
         lambda: nn.Sequential(frozen(nn.Linear(6, 6)), nn.Linear(6, 2)), (1, 6), 42 + 14),
    Case("Lightning-AI/pytorch-lightning#12736", "a parameter of the module itself",
         lambda: Holding(lambda s, x: s.layer(x @ s.param), param=numbers(2, 2), layer=nn.Linear(2, 2)), (1, 2), 10),
    Case("Lightning-AI/pytorch-lightning#17005", "a parameter in no layer",
         lambda: Holding(lambda s, x: s.fc(x) + s.token, token=numbers(1, 4), fc=nn.Linear(4, 4)), (1, 4), 24),
    Case("Lightning-AI/pytorch-lightning#19588", "lazy layers before the first batch",
         lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)), IMAGE, 112 + 290),
    Case("Lightning-AI/pytorch-lightning#7642", "a lazy layer among others",
         lambda: nn.Sequential(nn.Linear(5, 5), nn.LazyLinear(1)), (1, 5), 30 + 6),
    Case("karpathy/nanoGPT#209", "a table and a head of one weight, positions beside",
         lambda: Holding(lambda s, x: s.body(x) + s.pos, body=tied_head(16, 4), pos=numbers(1, 3, 16)), (1, 3),
         64 + 48, True),
    Case("pytorch/torchtitan#3225", "a tied head, counted out twice", lambda: tied_head(9, 3), (1, 4), 27, True),
    Case("bigscience-workshop/Megatron-DeepSpeed#99", "a table in the first and the last stage", sharded_stages, (1, 3),
         48 + 20, True),
    Case("TylerYep/torchinfo#28", "a list of parameters alone",
         lambda: Holding(lambda s, x: x @ s.weights[0], weights=nn.ParameterList([numbers(4, 10), numbers(4, 20)])),
         (1, 4), 40 + 80),
    Case("sovrasov/flops-counter.pytorch#106", "a layer that a block within has too", layer_and_block, (2, 10), 110),
    Case("deepspeedai/DeepSpeed#7256", "one layer for three thirds of the input",
         lambda: Holding(lambda s, x: sum(layer(part) for layer, part in zip(s.layers, x.chunk(3, 1), strict=True)),
                         layers=nn.ModuleList([nn.Linear(6, 6)] * 3)), (1, 18), 42),
    Case("artidoro/qlora#260", "an adapter on a frozen layer", adapted, (1, 8), 72 + 16 + 16),
)  # fmt: skip


def shown(case: Case) -> Tensor:
    """Return the example input of a case."""
    return torch.zeros(case.example, dtype=torch.int64) if case.whole else torch.rand(case.example)
