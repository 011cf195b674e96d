"""One classifier, one loss, three libraries: the loss curves coincide.

A linear classifier of handwritten digits learns by plain gradient descent from the same start, with the same softmax focal loss.
NumPy has no autograd: there `value_and_grad` gives the gradient of the logits, and one matrix product carries it to the weights.
PyTorch and JAX differentiate through the loss. Run it: python examples/digits.py
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from arrayloss import softmax_focal_loss
from arrayloss.check.points import digits

STEPS, RATE = 30, 2.0


def data():
    pixels, labels = digits()
    images = (pixels / 16).astype(np.float32)
    start = 0.01 * np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
    return images, labels, start


def with_numpy(images, labels, weights):
    curve = []
    for _ in range(STEPS):
        value, gradient = softmax_focal_loss.value_and_grad(images @ weights, labels)
        weights = weights - np.float32(RATE) * (images.T @ gradient)
        curve.append(float(value))
    return curve


def with_torch(images, labels, weights):
    images, labels, weights = map(torch.tensor, (images, labels, weights))
    weights.requires_grad_()
    optimizer = torch.optim.SGD([weights], lr=RATE)
    curve = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = softmax_focal_loss(images @ weights, labels)
        value.backward()
        optimizer.step()
        curve.append(value.item())
    return curve


def with_jax(images, labels, weights):
    images, labels, weights = map(jnp.asarray, (images, labels, weights))

    @jax.jit
    def step(weights):
        value, gradient = jax.value_and_grad(lambda w: softmax_focal_loss(images @ w, labels))(weights)
        return value, weights - RATE * gradient

    curve = []
    for _ in range(STEPS):
        value, weights = step(weights)
        curve.append(float(value))
    return curve


def curves():
    """The loss before every step, by library."""
    return {"NumPy": with_numpy(*data()), "PyTorch": with_torch(*data()), "JAX": with_jax(*data())}


def main():
    found = curves()
    print("step  " + "".join(f"{name:>12}" for name in found))
    for step in range(0, STEPS, 3):
        print(f"{step:4}  " + "".join(f"{curve[step]:12.7f}" for curve in found.values()))
    numpy, *others = map(np.asarray, found.values())
    apart = max(float(np.max(np.abs(other / numpy - 1))) for other in others)
    print(f"The curves differ by {apart:.1e} of the loss at most, over {STEPS} steps.")


if __name__ == "__main__":
    main()
