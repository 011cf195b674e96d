"""Losses of DTensors against those of plain tensors: a program for one process of several. Arguments: store, number of processes, rank."""

import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import arrayloss as al

torch.manual_seed(0)
X, LABELS = torch.randn(6, 4), torch.tensor([0, 1, 3, 0, 2, 3])
ROWS, MASKS = torch.softmax(torch.randn(6, 4), 1), (torch.rand(6, 4) > 0.5).float()
WEIGHTS, PER_CLASS = torch.rand(6), (1.0, 2.0, 3.0, 4.0)
ce, dice = al.cross_entropy, al.dice_loss.bind(axis=1, activation="softmax")
CASES = [
    (ce, LABELS, {}),
    (ce, LABELS, {"ignore_index": 1}),
    (ce, LABELS, {"class_weights": PER_CLASS}),
    (ce, LABELS, {"label_smoothing": 0.1, "class_weights": PER_CLASS}),
    (ce, LABELS, {"weights": WEIGHTS}),
    (ce, LABELS, {"where": WEIGHTS > 0.4}),
    (ce, LABELS, {"reduction": "none"}),
    (ce, LABELS, {"reduction": "sum"}),
    (ce, LABELS, {"normalizer": 3.0}),
    (ce.bind(axis=1), ROWS, {}),
    (al.softmax_focal_loss, LABELS, {}),
    (al.softmax_focal_loss, LABELS, {"alpha": PER_CLASS}),
    (al.nll_loss, LABELS, {}),
    (al.kl_divergence, ROWS, {}),
    (al.sigmoid_cross_entropy, MASKS, {}),
    (al.sigmoid_cross_entropy, MASKS.long(), {}),
    (al.sigmoid_cross_entropy.bind(axis=1), MASKS, {"pos_weight": PER_CLASS}),
    (al.huber_loss, MASKS, {}),
    (dice, LABELS, {"class_weights": PER_CLASS}),
    (dice.bind(activation="sigmoid"), MASKS, {}),
    (al.generalized_dice_loss.bind(axis=1, activation="softmax"), LABELS, {}),
    (ce + dice, LABELS, {}),
]


def compare(store: str, processes: int, rank: int) -> int:
    """How many values and gradients agree with those of plain tensors."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=processes)
    mesh, agree = init_device_mesh("cpu", (processes,)), 0

    def place(a: torch.Tensor, placement: Any) -> torch.Tensor:  # of what has no classes, copies where classes are split
        return distribute_tensor(a, mesh, [placement if a.ndim == 2 or placement != Shard(1) else Replicate()])

    try:
        for placement in (Shard(0), Replicate(), Shard(1)):
            for loss, t, options in CASES:
                x, plain = place(X.clone(), placement).requires_grad_(), X.clone().requires_grad_()
                placed = {n: place(o, placement) if isinstance(o, torch.Tensor) else o for n, o in options.items()}
                value, expected = loss(x, place(t, placement), **placed), loss(plain, t, **options)
                value.sum().backward()
                expected.sum().backward()
                torch.testing.assert_close(value.full_tensor(), expected)
                torch.testing.assert_close(x.grad.full_tensor(), plain.grad)
                agree += 1
    finally:
        dist.destroy_process_group()
    return agree


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(compare(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), "agree")
