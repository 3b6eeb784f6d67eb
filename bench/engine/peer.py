"""PyTorch's side of the engine bench: trains the same nets, told what to do by lines of JSON on standard input.

Each line is one command and is answered by one line. The first argument is the number of threads. Images come as
[n, h, w, c] and filters as [h, w, in, out], the layout of the other side, and are brought into PyTorch's before any
timing. Needs torch alone.
"""

import json
import math
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import torch
from torch import nn
from torch.nn import functional as F


def read_tensors(path, listing):
    """The float32 tensors of a raw file, by name, in the order of the listing."""
    total = sum(math.prod(entry["shape"]) for entry in listing)
    flat = torch.from_file(path, shared=False, size=total, dtype=torch.float32)
    tensors, start = {}, 0
    for entry in listing:
        size = math.prod(entry["shape"])
        tensors[entry["name"]] = flat[start : start + size].reshape(entry["shape"]).clone()
        start += size
    return tensors


def with_values(module, weight, bias=None):
    with torch.no_grad():
        module.weight.copy_(weight)
        if bias is not None:
            module.bias.copy_(bias)
    return module


def convolution(layer, tensors, name, bias):
    filters = tensors[f"{name}/filter"].permute(3, 2, 0, 1)
    size, stride = layer.get("size", 3), layer.get("stride", 1)
    module = nn.Conv2d(filters.shape[1], filters.shape[0], size, stride, padding=(size - 1) // 2, bias=bias)
    return with_values(module, filters, tensors[f"{name}/bias"] if bias else None)


def build(row, tensors):
    """The row's net as a plain nn.Sequential, in the other side's order of layers."""
    modules = []
    height, width, channels = row["image"]
    flat = False
    for number, layer in enumerate(row["layers"], 1):
        kind = layer["kind"]
        if kind == "block":
            norm = with_values(
                nn.BatchNorm2d(layer["channels"]), tensors[f"norm{number}/scale"], tensors[f"norm{number}/offset"]
            )
            modules += [convolution(layer, tensors, f"conv{number}", False), nn.MaxPool2d(2), norm, nn.ReLU(True)]
            height, width, channels = height // 2, width // 2, layer["channels"]
        elif kind == "conv":
            modules += [convolution(layer, tensors, f"conv{number}", True), nn.ReLU(True)]
            height, width = (-(-side // layer["stride"]) for side in (height, width))
            channels = layer["channels"]
        elif kind == "pool":
            modules.append(nn.MaxPool2d(layer["size"], layer["stride"]))
            height, width = ((side - layer["size"]) // layer["stride"] + 1 for side in (height, width))
        elif kind == "dense":
            weight = tensors[f"dense{number}/weights"]
            if not flat:
                # The other side flattens [h, w, c], this one [c, h, w].
                weight = weight.reshape(height, width, channels, -1).permute(2, 0, 1, 3).reshape(weight.shape)
                modules.append(nn.Flatten())
                flat = True
            modules.append(with_values(nn.Linear(*weight.shape), weight.T, tensors[f"dense{number}/bias"]))
            if layer["relu"]:
                modules.append(nn.ReLU(True))
    return nn.Sequential(*modules)


class Classes:
    """Softmax over ten classes."""

    def __init__(self, row, tensors, variant):
        memory = torch.channels_last if variant == "channels_last" else torch.contiguous_format
        self.net = build(row, tensors).to(memory_format=memory)
        self.parameters = list(self.net.parameters())
        self.images = tensors["images"].permute(0, 3, 1, 2).contiguous(memory_format=memory)
        self.labels = tensors["labels"].long()

    def loss(self):
        return F.cross_entropy(self.net(self.images), self.labels)

    def absorb(self):
        pass


class Instances(Classes):
    """Non-parametric instance discrimination: exact softmax over a bank that is data, not a parameter."""

    def __init__(self, row, tensors, variant):
        super().__init__(row, tensors, variant)
        self.bank = tensors["bank"]
        self.temperature, self.keep = row["temperature"], row["bankMomentum"]

    def loss(self):
        self.features = F.normalize(self.net(self.images))
        return F.cross_entropy(self.features @ self.bank.T / self.temperature, self.labels)

    def absorb(self):
        with torch.no_grad():
            slots = self.bank[self.labels].mul_(self.keep).add_(self.features, alpha=1 - self.keep)
            self.bank[self.labels] = F.normalize(slots)


class Patches:
    """Untied receptive fields that reconstruct what they see: squared error of W2 W1 x, patch by patch."""

    def __init__(self, row, tensors, variant):
        self.layer = row["layers"][0]
        self.parameters = [nn.Parameter(tensors[name]) for name in ("local1/encoder", "local1/decoder")]
        self.images = tensors["images"].permute(0, 3, 1, 2).contiguous()
        self.by_index = variant == "index"
        field, stride = self.layer["field"], self.layer["stride"]
        count, height, width = self.images.shape[0], *self.images.shape[2:]
        self.pixels = self.images.reshape(count, -1)
        numbered = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
        self.index = F.unfold(numbered, field, stride=stride)[0].long().T.reshape(-1)

    def patches(self):
        """[positions, pixels of a field, images]"""
        if self.by_index:
            field = self.layer["field"] ** 2
            return self.pixels.T.contiguous().index_select(0, self.index).view(-1, field, self.pixels.shape[0])
        return F.unfold(self.images, self.layer["field"], stride=self.layer["stride"]).permute(2, 1, 0)

    def loss(self):
        encoder, decoder = self.parameters
        seen = self.patches()
        return (torch.bmm(decoder, torch.bmm(encoder, seen)) - seen).square().sum() / seen.shape[2]

    def absorb(self):
        pass


tasks = {"classes": Classes, "instances": Instances, "patches": Patches}


class Training:
    def __init__(self, row, tensors, variant):
        self.task = tasks[row["loss"]](row, tensors, variant)
        self.optimizer = torch.optim.SGD(self.task.parameters, lr=row["learningRate"], momentum=row["momentum"])

    def step(self):
        """Takes one step; the loss before it."""
        loss = self.task.loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.task.absorb()
        return loss.item()


def measure_peak(side=2048, trials=8):
    """GFLOP/s of the best of several matrix products."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    best = math.inf
    for _ in range(trials):
        started = time.perf_counter()
        (a @ b).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9


trainings = {}


def answer(message):
    command = message["command"]
    if command == "hello":
        return {"version": torch.__version__, "threads": torch.get_num_threads()}
    if command == "prepare":
        row = message["row"]
        training = Training(row, read_tensors(message["file"], message["tensors"]), message["variant"])
        trainings[message["variant"]] = training
        return {"losses": [training.step() for _ in range(2)]}
    if command == "steps":
        training = trainings[message["variant"]]
        started = time.perf_counter()
        for _ in range(message["count"]):
            training.step()
        return {"milliseconds": (time.perf_counter() - started) * 1000 / message["count"]}
    if command == "peak":
        return {"gflops": measure_peak()}
    if command == "release":
        trainings.clear()
        return {}
    raise ValueError(f"no command '{command}'")


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(1)
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:  # The other side reports it.
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), flush=True)


main()
