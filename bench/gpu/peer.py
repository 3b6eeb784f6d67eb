"""PyTorch's side of the GPU bench: the same nets, eager, on CUDA, in float32 and with TF32.

The first argument is JSON: {"tasks": [...], "tiny": bool}. Each result is a line of JSON. A step takes its batch from
pinned memory; both memory formats are tried, and the faster counts. Needs torch alone.
"""

import json
import math
import sys
import time
import warnings

warnings.filterwarnings("ignore")


def tell(**found):
    print(json.dumps(found), flush=True)


try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as error:
    tell(error=f"this python has no torch ({error})")
    sys.exit(0)


class Block(nn.Module):
    """Two convolutions 3x3, or 1x1, 3x3 and 1x1, and a shortcut."""

    def __init__(self, inputs, channels, stride, narrow):
        super().__init__()
        outputs = 4 * channels if narrow else channels
        plans = [(1, channels, 1), (3, channels, stride), (1, outputs, 1)] if narrow else [(3, channels, stride), (3, channels, 1)]
        layers, before = [], inputs
        for number, (kernel, after, own) in enumerate(plans, 1):
            layers += [nn.Conv2d(before, after, kernel, own, (kernel - 1) // 2, bias=False), nn.BatchNorm2d(after)]
            if number < len(plans):
                layers.append(nn.ReLU(True))
            before = after
        self.body = nn.Sequential(*layers)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x), True)


def resnet(depth=18, stem="imagenet", width=64):
    counts = {18: [2, 2, 2, 2], 50: [3, 4, 6, 3]}[depth]
    narrow = depth == 50
    if stem == "cifar":
        layers = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
    else:
        layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    inputs = width
    for stage, count in enumerate(counts):
        channels = width * 2**stage
        for number in range(count):
            layers.append(Block(inputs, channels, 2 if stage > 0 and number == 0 else 1, narrow))
            inputs = 4 * channels if narrow else channels
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def vgg(depth=16, width=64, dense=(4096, 4096)):
    assert depth == 16
    layers, inputs = [], 3
    for count, multiple in zip([2, 2, 3, 3, 3], [1, 2, 4, 8, 8]):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width * multiple, 3, padding=1), nn.ReLU(True)]
            inputs = width * multiple
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for units in dense:
        layers += [nn.LazyLinear(units), nn.ReLU(True), nn.Dropout(0.5)]
    return layers


def small(channels, widths=(16, 32, 64)):
    layers = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(width), nn.ReLU(True)]
        channels = width
    return [*layers, nn.Flatten()]


def wide():
    layers, inputs = [], 3
    for channels in (32, 64):
        for _ in range(2):
            layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU(True)]
            inputs = channels
        layers.append(nn.MaxPool2d(2))
    return [*layers, nn.Flatten(), nn.LazyLinear(128), nn.ReLU(True)]


def build(task):
    family, own = task["family"], task["parameters"]
    if family == "resnet":
        layers = resnet(**own)
    elif family == "vgg":
        layers = vgg(**own)
    elif family == "small":
        layers = small(task["image"][2], **own)
    else:
        layers = wide()
    outputs = 128 if "bank" in task else task["classes"]
    return nn.Sequential(*layers, nn.LazyLinear(outputs))


class Classes:
    def __init__(self, task, net):
        self.net = net
        self.labels = (torch.arange(task["batch"]) % task["classes"]).cuda()

    def loss(self, images):
        return F.cross_entropy(self.net(images), self.labels)

    def absorb(self):
        pass


class Instances:
    """Exact softmax over a bank that is data, not a parameter."""

    def __init__(self, task, net):
        self.net = net
        self.bank = F.normalize(torch.randn(task["bank"], 128, device="cuda"))
        self.own = (torch.arange(task["batch"]) * max(1, task["bank"] // task["batch"])).cuda()

    def loss(self, images):
        self.features = F.normalize(self.net(images))
        return F.cross_entropy(self.features @ self.bank.T / 0.07, self.own)

    def absorb(self):
        with torch.no_grad():
            slots = self.bank[self.own].mul_(0.5).add_(self.features, alpha=0.5)
            self.bank[self.own] = F.normalize(slots)


def timed(work, least_seconds, least_count):
    """Seconds of one piece of work."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    began, count = time.perf_counter(), 0
    while count < least_count or time.perf_counter() - began < least_seconds:
        for _ in range(5):
            work()
        torch.cuda.synchronize()
        count += 5
    return (time.perf_counter() - began) / count


def train(task, memory, seconds):
    """Images a second of training steps."""
    height, width, channels = task["image"]
    batch = torch.rand(task["batch"], channels, height, width).contiguous(memory_format=memory).pin_memory()
    net = build(task).cuda()
    net(batch[:2].cuda())
    net = net.to(memory_format=memory)
    learned = sum(weight.numel() for weight in net.parameters())
    if learned != task["weights"]:
        tell(complaint=f"{task['name']} has {learned} weights here and {task['weights']} there")
    side = (Instances if "bank" in task else Classes)(task, net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)

    def step():
        loss = side.loss(batch.to("cuda", non_blocking=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        side.absorb()

    return task["batch"] / timed(step, seconds, 5)


def cluster(task):
    """Seconds of k-means from points in main memory."""
    host = torch.randn(task["n"], task["d"])
    piece = 65536

    def run():
        points = host.cuda()
        squares = points.square().sum(1)
        centres = points[: task["k"]].clone()
        for turn in range(task["iterations"] + 1):
            nearest = torch.empty(task["n"], dtype=torch.long, device="cuda")
            inertia = torch.zeros((), device="cuda")
            for at in range(0, task["n"], piece):
                own = slice(at, at + piece)
                distance = centres.square().sum(1) - 2 * points[own] @ centres.T
                found = distance.min(1)
                nearest[own] = found.indices
                inertia += (found.values + squares[own]).sum()
            if turn < task["iterations"]:
                sums = torch.zeros_like(centres).index_add_(0, nearest, points)
                counts = torch.bincount(nearest, minlength=task["k"]).clamp(min=1)
                centres = sums / counts[:, None]
        return inertia.item()

    run()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def rates(tiny):
    side, size = (256, 2**20) if tiny else (8192, 2**30)
    a, b = torch.randn(side, side, device="cuda"), torch.randn(side, side, device="cuda")
    found = {}
    for precision in ("fp32", "tf32"):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        found[precision] = 2 * side**3 / timed(lambda: a @ b, 1, 5) / 1e12
    source, target = (torch.empty(size // 4, device="cuda") for _ in range(2))
    found["copyGBs"] = 2 * size / timed(lambda: target.copy_(source), 1, 5) / 1e9
    return found


def measure(task, precision, seconds):
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cudnn.benchmark = True
    if task["kind"] == "clustering":
        return {"seconds": cluster(task)}
    formats = [torch.contiguous_format, torch.channels_last]
    return {"imagesPerSecond": max(train(task, memory, seconds) for memory in formats), "batch": task["batch"]}


def main():
    if not torch.cuda.is_available():
        tell(error=f"torch {torch.__version__} finds no CUDA device")
        return
    given = json.loads(sys.argv[1])
    tell(version=torch.__version__, device=torch.cuda.get_device_name())
    tell(rates=rates(given["tiny"]))
    for task in given["tasks"]:
        if task["kind"] == "training" and task.get("batch") is None:
            continue
        for precision in ("fp32", "tf32"):
            try:
                tell(name=task["name"], precision=precision, **measure(task, precision, 0.2 if given["tiny"] else 3))
            except Exception as error:
                tell(complaint=f"{task['name']} in {precision}: {type(error).__name__}: {error}")
            torch.cuda.empty_cache()


main()
