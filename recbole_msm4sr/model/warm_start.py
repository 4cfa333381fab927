"""Starting a model from the weights of another: the parts that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from recbole_msm4sr.model.blocks.transformer import CausalTransformer


def load_parts(model: nn.Module, state_dict: Mapping[str, Tensor], parts: Sequence[str], transformer: str) -> None:
    """Give submodules of a model the weights that a checkpoint has for them; all other weights stay.

    Args:
        model: in place.
        state_dict: the checkpoint's; what it has beside the parts is left out.
        parts: names of submodules, which must be there whole.
        transformer: name of the ``CausalTransformer`` among or in them, whose number of layers must agree.

    Raises:
        ValueError: the checkpoint lacks a weight, has one of another shape, or another number of layers. Nothing is
            loaded then.
    """
    wanted = {
        name: tensor.shape
        for name, tensor in model.state_dict().items()
        if name.startswith(tuple(f"{p}." for p in parts))
    }
    for name, shape in wanted.items():
        if name not in state_dict:
            raise ValueError(f"it lacks {name}")
        if state_dict[name].shape != shape:
            raise ValueError(f"{name} is {list(state_dict[name].shape)} there, {list(shape)} here")
    layers, own = (_n_layers(names, f"{transformer}.layers.") for names in (state_dict, wanted))
    if layers != own:
        raise ValueError(f"it has {layers} transformer layers, n_layers is {own}")
    model.load_state_dict({name: state_dict[name] for name in wanted}, strict=False)


def freeze_transformer(model: nn.Module) -> None:
    """Keep every ``CausalTransformer`` of a model as it is: its parameters ask for no gradient."""
    for module in model.modules():
        if isinstance(module, CausalTransformer):
            module.requires_grad_(False)


def _n_layers(names: Mapping[str, object], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)})
