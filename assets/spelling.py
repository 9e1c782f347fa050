"""Names as Dagster allows them: operations, groups, jobs and tags are letters, digits and `_`.

Keys of assets may be anything, and are as the plan has them: `fashion_mnist@1/train`. What Dagster
calls after them is spelt otherwise, `fashion_mnist_AT_1__train`: names of the catalogue are
lower-case, so capitals say unmistakably what stood there. What holds no such letter stays as it is.

Dagster makes the name of an operation of the key of its asset or check, and refuses one that is not
allowed, whatever it is told: so assets are declared under keys that are, and get their own then.

Not here: what anything is called (`pipelines.plan`).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dagster as dg

_LEGAL = {"@": "_AT_", ".": "P", "-": "M"}  # point and minus stand in versions alone


@functools.cache
def legal(name: str) -> str:
    """Return a name of a source or a dataset as Dagster allows it; no two have the same."""
    return "".join(_LEGAL.get(letter, letter) for letter in name)


def step(asset: Iterable[str]) -> str:
    """Return what Dagster calls the step that makes an asset."""
    return "__".join(map(legal, asset))


def asset(
    key: dg.AssetKey | Sequence[str],
    deps: Iterable[dg.AssetKey] = (),
    check_specs: Iterable[dg.AssetCheckSpec] = (),
    **more: Any,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Be `dagster.asset`, for keys of whatever letters."""
    own = key if isinstance(key, dg.AssetKey) else dg.AssetKey(key)
    above, specs = list(deps), list(check_specs)
    declare = dg.asset(
        key=_declared(own),
        deps=[_declared(one) for one in above],
        check_specs=_specs(specs),
        **more,
    )
    return lambda make: _with_own_keys(declare(make), [own, *above])


def asset_check(asset: dg.AssetKey, **more: Any) -> Callable[..., dg.AssetChecksDefinition]:
    """Be `dagster.asset_check`, for keys of whatever letters."""
    declare = dg.asset_check(asset=_declared(asset), **more)
    return lambda check: _checks_with_own_keys(declare(check), [asset])


def multi_asset_check(
    name: str, specs: Iterable[dg.AssetCheckSpec], **more: Any
) -> Callable[..., dg.AssetChecksDefinition]:
    """Be `dagster.multi_asset_check`, for names and keys of whatever letters."""
    own = list(specs)
    declare = dg.multi_asset_check(name=legal(name), specs=_specs(own), **more)
    return lambda check: _checks_with_own_keys(declare(check), [one.asset_key for one in own])


def _declared(key: dg.AssetKey) -> dg.AssetKey:
    return dg.AssetKey([*map(legal, key.path)])


def _specs(specs: Iterable[dg.AssetCheckSpec]) -> list[dg.AssetCheckSpec]:
    return [one.replace_key(dg.AssetCheckKey(_declared(one.asset_key), one.name)) for one in specs]


def _replacements(keys: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, dg.AssetKey]:
    return {_declared(key): key for key in keys if _declared(key) != key}


def _with_own_keys(
    declared: dg.AssetsDefinition, keys: Iterable[dg.AssetKey]
) -> dg.AssetsDefinition:
    own = _replacements(keys)
    return declared.with_attributes(asset_key_replacements=own) if own else declared


def _checks_with_own_keys(
    declared: dg.AssetChecksDefinition, keys: Iterable[dg.AssetKey]
) -> dg.AssetChecksDefinition:
    own = _replacements(keys)
    if not own:
        return declared
    renamed = declared.with_attributes(asset_key_replacements=own)
    with warnings.catch_warnings():  # with other keys it is no longer checks alone, to Dagster
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.AssetChecksDefinition(**renamed.get_attributes_dict())
