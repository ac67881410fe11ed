"""Cut layers out for good: a smaller model that runs without this library.

A layer that is skipped still lies in memory and in every saved file. `prune` copies the model
without it, as a plain model of its own class: its config says how deep it now is, so that it can be
saved and loaded, and its blocks know their new places, so that its KV cache is filled in order.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

import torch
from torch import nn

from ..errors import check_layers, check_positive_int
from .blocks import BlockEntry
from .skipping import Skipping, attach

_DEPTH_FIELDS = ("num_layers", "num_hidden_layers", "n_layer", "n_layers")
_PLACE_NAMES = ("layer_idx", "layer_id", "layer_index")  # what an attention finds its cache by
_PLAIN_VALUES = (bool, int, float, str, tuple)

Stacks = dict[str, tuple[int, ...]]  # path of a list of blocks -> the places in it that are meant


def prune(
    model: nn.Module, layers_to_remove: Iterable[int], *, within: str | None = None
) -> nn.Module:
    """A copy of the model without these layers; its outputs are those of `skip_layers`.

    The model itself stays as it is. The copy is of the model's own class and knows nothing of this
    library: what is skipped or dropped at present is no part of it.

    Args:
        model: any model whose residual blocks are found, see `find_blocks`.
        layers_to_remove: layers in 0..L-1, each once; at least one layer stays.
        within: path of the part whose blocks are meant, such as "encoder".

    Raises:
        ValueError: a layer out of range or named twice; all layers, or all of one stage; layers
            scaled in evaluation, which a plain model cannot hold; a config whose depth is not
            found; or blocks that the config would build otherwise in their new places, such as
            Swin's, of which every second one shifts its windows.

    Example:
        >>> small = prune(model, {2, 5})
        >>> small.save("small")
    """
    skipping = attach(model, within=within)
    removed = set(check_layers("layers_to_remove", layers_to_remove, skipping.num_layers))
    _refuse_scaled(skipping, removed)
    kept = _places(skipping.blocks, removed)
    if empty := [name for name, places in kept.items() if not places]:
        what = "the model" if len(kept) == 1 else f"the stage {empty[0]!r}"
        raise ValueError(f"layers_to_remove={sorted(removed)} leaves {what} without a block")
    pruned = copy.deepcopy(model)
    for name, places in kept.items():
        _cut(pruned.get_submodule(name), places)
    _set_depth(pruned, _places(skipping.blocks, set()), kept)
    _refuse_what_depends_on_its_place(model, pruned, kept)
    return pruned


def early_exit(model: nn.Module, layer: int, *, within: str | None = None) -> nn.Module:
    """A copy that exits before this layer: blocks 0..layer-1, then the model's own norm and head.

    Args:
        model: as for `prune`.
        layer: the first layer that is cut off, and so the number of those that stay, in 1..L.
        within: path of the part whose blocks are meant, such as "encoder".

    Raises:
        ValueError: a layer out of range, and what `prune` refuses.

    Source: Elhoushi et al. 2024, arXiv 2404.16710: one head for the exits at all layers [S].
    """
    num_layers = attach(model, within=within).num_layers
    if check_positive_int("layer", layer) > num_layers:
        raise ValueError(f"layer={layer} is outside 1..{num_layers}")
    return prune(model, range(layer, num_layers), within=within)


def _refuse_scaled(skipping: Skipping, removed: set[int]) -> None:
    """A block adds twice to the residual stream: no change of its weights scales what it adds."""
    factors = skipping.evaluation_scale.items()
    scaled = sorted(layer for layer, factor in factors if factor != 1 and layer not in removed)
    if scaled:
        raise ValueError(
            f"layers {scaled} are scaled in evaluation (rescale='eval_scale'), which a plain model "
            "cannot hold; call set_evaluation_scale({}) first, or train with another rescale"
        )


def _places(blocks: Sequence[BlockEntry], removed: set[int]) -> Stacks:
    """Every list of blocks, with the places in it of the layers that are not removed."""
    stacks: dict[str, list[int]] = {}
    for layer, block in enumerate(blocks):
        stacks.setdefault(block.name.rpartition(".")[0], []).append(layer)
    return {
        name: tuple(place for place, layer in enumerate(layers) if layer not in removed)
        for name, layers in stacks.items()
    }


def _cut(stack: nn.Module, places: Sequence[int]) -> None:
    """Keep the blocks at these places, and tell them where they now stand."""
    entries = [entry for entry in stack._modules.items() if entry[1] is not None]
    stack._modules.clear()
    for new, old in enumerate(places):
        name, block = entries[old]
        assert block is not None
        stack._modules[str(new) if name.isdigit() else name] = block
        for module in block.modules():
            for field in _PLACE_NAMES:
                if isinstance(place := vars(module).get(field), int):
                    setattr(module, field, place - old + new)


def _set_depth(model: nn.Module, before: Stacks, kept: Stacks) -> None:
    """Write the new depth wherever the old one stood: in configs, and beside a list of blocks."""
    has_config = is_set = False
    for owner in _owners(model, kept):
        config = getattr(owner, "config", None)
        changes = {} if config is None else _changes(config, before, kept)
        has_config, is_set = has_config or config is not None, is_set or bool(changes)
        if is_dataclass(config) and type(config).__dataclass_params__.frozen:  # pyright: ignore
            owner.config = replace(config, **changes)  # pyright: ignore[reportArgumentType]
        else:
            for field, value in changes.items():
                setattr(config, field, value)
    if has_config and not is_set:
        raise ValueError(
            f"the config of {type(model).__name__} holds its depth in none of depths, "
            f"{', '.join(_DEPTH_FIELDS)}, so that it cannot say how deep the pruned model is"
        )
    for name, places in kept.items():  # such as torch's TransformerEncoder
        parent = model.get_submodule(name.rpartition(".")[0])
        if vars(parent).get("num_layers") == len(before[name]):
            vars(parent)["num_layers"] = len(places)


def _owners(model: nn.Module, stacks: Stacks) -> list[nn.Module]:
    """The modules on the way to the lists, each once, the model itself first."""
    paths = {"": None}
    for name in stacks:
        parts = name.split(".")
        paths.update(dict.fromkeys(".".join(parts[:end]) for end in range(1, len(parts))))
    return [model.get_submodule(path) for path in paths]


def _changes(config: Any, before: Stacks, kept: Stacks) -> dict[str, Any]:
    """The fields of a config that speak of depth, with their new values."""
    old, new = [len(places) for places in before.values()], [len(p) for p in kept.values()]
    depths = getattr(config, "depths", None)
    if depths is not None and list(depths) == old:
        return {"depths": type(depths)(new)}
    if len(old) > 1:
        return {}
    changes: dict[str, Any] = {
        field: new[0] for field in _DEPTH_FIELDS if getattr(config, field, None) == old[0]
    }
    (places,) = kept.values()
    for field, value in vars(config).items():  # one entry a layer, such as layer_types
        if isinstance(value, (list, tuple)) and len(value) == old[0] and "layer" in field:
            changes[field] = type(value)(value[place] for place in places)
    return changes


def _refuse_what_depends_on_its_place(model: nn.Module, pruned: nn.Module, kept: Stacks) -> None:
    """Raise where the config would build a block otherwise now: saved and loaded, it would differ.

    Looked at only where a config alone builds the model, as in transformers.
    """
    built = [_built_from_config(each) for each in (model, pruned)]
    if built[0] is None or built[1] is None:
        return
    for name, places in kept.items():
        at_first, now = (list(each.get_submodule(name).children()) for each in built)  # pyright: ignore
        for new, old in enumerate(places):
            fields = _fields(at_first[old]).items() ^ _fields(now[new]).items()
            if fields:
                odd = sorted({field for field, _ in fields})
                raise ValueError(
                    f"{name}.{old} cannot stand at place {new}: {type(model).__name__}'s config "
                    f"would build it there with another {', '.join(odd[:3])}, so that the pruned "
                    "model could not be loaded again; remove other layers"
                )


def _built_from_config(model: nn.Module) -> nn.Module | None:
    """A model as its config alone describes it, without weights; None where none does."""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            return type(model)(copy.deepcopy(model.config))
    except Exception:  # whatever a class that is not built so may raise
        return None


def _fields(block: nn.Module) -> dict[str, Any]:
    """What a block is built with, without its place and what acts in training alone."""
    fields: dict[str, Any] = {name: tuple(p.shape) for name, p in block.named_parameters()}
    for path, module in block.named_modules():
        if "drop_path" in path:
            continue
        # GPT-2 may divide its attention by the layer's number, in older transformers at each call.
        by_place = getattr(module, "scale_attn_by_inverse_layer_idx", False)
        for field, value in vars(module).items():
            is_built = not field.startswith("_") and (by_place or field not in _PLACE_NAMES)
            if is_built and isinstance(value, _PLAIN_VALUES):
                fields[f"{path}.{field}".lstrip(".")] = value
    return fields
