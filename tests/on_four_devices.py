"""Losses over four virtual devices against one device; `test_jax.py` runs this in a process of its own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from arrayloss import sigmoid_focal_loss, softmax_cross_entropy

rng = np.random.default_rng(0)
logits = jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)
labels = jnp.asarray([0, 1, 1, 1, 2, 3, 0, 2])  # 1 is ignored: the devices count different numbers of elements
weights = jnp.asarray(rng.random(8), jnp.float32)
loss = softmax_cross_entropy.bind(ignore_index=1)


def on_one_device(x: Any) -> Any:
    return loss(x, labels, weights=weights)


value, gradient = jax.value_and_grad(on_one_device)(logits)


def check(name: str, answer: tuple[Any, Any]) -> None:
    np.testing.assert_allclose(answer[0], value, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(answer[1], gradient, rtol=1e-5, atol=1e-8, err_msg=name)
    print(name)


def over_devices(x: Any, t: Any, w: Any) -> Any:
    return loss.finish(jax.lax.psum(loss.parts(x, t, weights=w), "data"))


mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
batch = (P("data"), P("data"), P("data"))
outside = jax.shard_map(over_devices, mesh=mesh, in_specs=batch, out_specs=P(), check_vma=True)
check("shard_map", jax.jit(jax.value_and_grad(outside))(logits, labels, weights))
inside = jax.shard_map(jax.value_and_grad(over_devices), mesh=mesh, in_specs=batch, out_specs=(P(), P("data")), check_vma=True)
check("gradient-inside", inside(logits, labels, weights))

for name, spec in (("automatic-batch", P("data")), ("automatic-classes", P(None, "data"))):
    check(name, jax.jit(jax.value_and_grad(on_one_device))(jax.device_put(logits, NamedSharding(mesh, spec))))

explicit = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))
with jax.set_mesh(explicit):
    for name, spec, rows in (("explicit-batch", P("data"), P("data")), ("explicit-classes", P(None, "data"), P())):
        x, t, w = (jax.device_put(a, NamedSharding(explicit, s)) for a, s in ((logits, spec), (labels, rows), (weights, rows)))
        answer = jax.jit(jax.value_and_grad(lambda x, t=t, w=w: loss(x, t, weights=w)))(x)
        assert tuple(answer[1].sharding.spec)[: len(spec)] == tuple(spec)
        check(name, answer)
        jax.jit(jax.grad(lambda x: sigmoid_focal_loss(x, x > 0, alpha=(0.1, 0.2, 0.3, 0.4))))(x)
