"""The optimiser of a recipe."""

from torch import nn, optim

from training.recipe import TrainingRecipe


def make_optimizer(
    recipe: TrainingRecipe, module: nn.Module, head: tuple[str, ...]
) -> optim.Optimizer:
    """Return the recipe's optimiser of all the module's parameters; each group has its `peak`.

    Args:
        recipe: gives the optimiser and the learning rates.
        module: what learns.
        head: names of the layers that `head_learning_rate` is for.
    """
    rest, fresh = [], []
    prefixes = tuple(f"{layer}." for layer in head)
    for name, parameter in module.named_parameters():
        (fresh if prefixes and name.startswith(prefixes) else rest).append(parameter)
    if recipe.head_learning_rate is None:
        groups = [{"params": rest + fresh, "peak": recipe.peak_learning_rate}]
    else:
        groups = [
            {"params": rest, "peak": recipe.peak_learning_rate},
            {"params": fresh, "peak": recipe.head_learning_rate},
        ]
    make = optim.AdamW if recipe.optimizer == "adamw" else optim.Adam
    # One kernel for all parameters on devices that have it.
    fused = all(parameter.is_cuda for parameter in rest + fresh)
    return make(
        groups, lr=recipe.peak_learning_rate, weight_decay=recipe.weight_decay, fused=fused or None
    )
