"""Losses over four virtual devices against one device; `test_jax.py` runs this in a process of its own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from arrayloss import dice_loss, sigmoid_focal_loss, softmax_cross_entropy

rng = np.random.default_rng(0)
logits = jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)
labels = jnp.asarray([0, 1, 1, 1, 2, 3, 0, 2])  # 1 is ignored: the devices count different numbers of elements
weights = jnp.asarray(rng.random(8), jnp.float32)
loss = softmax_cross_entropy.bind(ignore_index=1, class_weights=(1.0, 2.0, 3.0, 4.0))
dice = dice_loss.bind(activation="softmax", axis=1, class_weights=(1.0, 2.0, 3.0, 4.0))
focal = sigmoid_focal_loss.bind(alpha=(0.1, 0.2, 0.3, 0.4), axis=1)


def of_rows(x: Any, t: Any, w: Any) -> Any:
    return loss(x, t, weights=w)


def of_all(x: Any, t: Any, w: Any) -> Any:
    return of_rows(x, t, w) + dice(x, t) + focal(x, jnp.sign(x) > 0, weights=w[:, None])


def over_devices(x: Any, t: Any, w: Any) -> Any:
    return loss.finish(jax.lax.psum(loss.parts(x, t, weights=w), "data"))


def check(name: str, result: tuple[Any, Any], function: Any) -> None:
    value, gradient = jax.jit(jax.value_and_grad(function))(logits, labels, weights)
    np.testing.assert_allclose(result[0], value, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(result[1], gradient, rtol=1e-5, atol=1e-8, err_msg=name)
    print(name)


mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
many = loss.parts(logits, labels, weights=weights)  # without x64
for _ in range(57):
    many = many + many
ways = {"leaves": lambda p: jax.lax.psum(p, "data"), "stack": lambda p: p.unstack(jax.lax.psum(p.stack(), "data"))}
for name, add in ways.items():
    everywhere = jax.jit(jax.shard_map(add, mesh=mesh, in_specs=P(), out_specs=P()))(many)
    assert int(everywhere.count) == 4 * int(many.count) == 5 * 2**59
    np.testing.assert_allclose(float(everywhere.total), 4 * float(many.total), rtol=1e-7)
    print(name)
batch = (P("data"), P("data"), P("data"))
outside = jax.shard_map(over_devices, mesh=mesh, in_specs=batch, out_specs=P(), check_vma=True)
check("shard_map", jax.jit(jax.value_and_grad(outside))(logits, labels, weights), of_rows)
inside = jax.shard_map(jax.value_and_grad(over_devices), mesh=mesh, in_specs=batch, out_specs=(P(), P("data")), check_vma=True)
check("gradient-inside", inside(logits, labels, weights), of_rows)

for axes in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axes,))
    with jax.set_mesh(mesh):
        for name, spec, rows in (("batch", P("data"), P("data")), ("classes", P(None, "data"), P())):
            x, t, w = (jax.device_put(a, NamedSharding(mesh, s)) for a, s in ((logits, spec), (labels, rows), (weights, rows)))
            compiled = jax.jit(jax.value_and_grad(of_all))(x, t, w)
            assert tuple(compiled[1].sharding.spec)[: len(spec)] == tuple(spec)
            check(f"{axes.name}-{name}", compiled, of_all)
            np.testing.assert_allclose(of_rows(x, t, w), of_rows(logits, labels, weights), rtol=1e-6)  # not compiled as a whole
