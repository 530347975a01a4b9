"""The sections of a training config; every field has a reader in this package."""

from dataclasses import dataclass
from typing import Literal

from clarity_cxr.errors import ConfigError

ClassLoss = Literal["wbce", "mlsm"]
TokenLoss = Literal["oct", "cct", "none"]
Form = Literal["text", "printed"]


@dataclass(frozen=True)
class LossConfig:
    """Weights of Eq. 18 and 19 (defaults: Table 2) and the losses' options.

    Args:
        alpha_class: weight of L_CLS_C, the class tokens' classification loss.
        alpha_patch: weight of L_CLS_P.
        alpha_foreground: weight of L_CLS_f.
        beta_suppression: weight of L_BAS.
        beta_area: weight of L_AC.
        gamma_proximity: weight of L_PRX.
        gamma_confinement: weight of L_CNF.
        priors: `required` refuses a store without anatomical priors; `optional` then leaves L_PRX and L_CNF off.
        delta_tokens: weight of L_OCT (or L_CCT).
        class_loss: `wbce` (Eq. 3) or `mlsm`, the same with unit class weights.
        class_reduction: `mean` or `sum` over the findings in Eq. 3; the paper prints the sum.
        token_loss: `oct` (Eq. 7), `cct` (Eq. 20) or `none`.
        similarity_form: w as the `text` says (minimum 1) or as `printed` in Eq. 11.
        confinement_form: L_CNF as the `text` says or as `printed` in Eq. 12, where the heatmap cancels.
        detach_suppression: stop the gradient of L_BAS through its denominator.

    Raises:
        ConfigError: a weight is negative.
    """

    alpha_class: float = 2.2674
    alpha_patch: float = 2.4678
    alpha_foreground: float = 3.9670
    beta_suppression: float = 0.4377
    beta_area: float = 1.4000
    gamma_proximity: float = 0.0898
    gamma_confinement: float = 2.1624
    priors: Literal["required", "optional"] = "optional"
    delta_tokens: float = 2.6375
    class_loss: ClassLoss = "wbce"
    class_reduction: Literal["mean", "sum"] = "mean"
    token_loss: TokenLoss = "oct"
    similarity_form: Form = "text"
    confinement_form: Form = "text"
    detach_suppression: bool = False

    def __post_init__(self) -> None:
        weights = [name for name in vars(self) if name.startswith(("alpha_", "beta_", "gamma_", "delta_"))]
        _require("loss", self, {name: (getattr(self, name) >= 0, "0 or more") for name in weights})


@dataclass(frozen=True)
class OptimizationConfig:
    """AdamW with a cosine schedule, per step.

    Args:
        epochs: passes over the training films.
        batch_size: films per optimizer step, of all processes together.
        learning_rate: peak learning rate, reached after the warm-up.
        layer_decay: factor on the learning rate from one block to the one below it; below 1 it keeps pretrained
            features in runs on few films.
        weight_decay: on matrices and kernels only; norms, biases, tokens and positions have none.
        warmup_epochs: epochs of linear warm-up from zero.
        final_learning_rate: learning rate at the last step.

    Raises:
        ConfigError: a value is impossible.
    """

    epochs: int = 200
    batch_size: int = 1024
    learning_rate: float = 1e-4
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    warmup_epochs: float = 5.0
    final_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        rules = {
            "epochs": (self.epochs >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "learning_rate": (self.learning_rate > 0, "more than 0"),
            "layer_decay": (0 < self.layer_decay <= 1, "more than 0, at most 1"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "warmup_epochs": (self.warmup_epochs >= 0, "0 or more"),
            "final_learning_rate": (0 <= self.final_learning_rate <= self.learning_rate, "0 to learning_rate"),
        }
        _require("optimization", self, rules)


@dataclass(frozen=True)
class RunConfig:
    """Where and how a run computes.

    Args:
        seed: keys initial weights, film order, augmentation and dropout.
        accelerator: Lightning accelerator: `auto`, `cpu`, `cuda`.
        devices: processes on this machine, each with a device of its own.
        nodes: machines, for runs that `torchrun` or SLURM starts on each of them.
        precision: `bf16-mixed` autocasts the model (losses stay float32); `32-true` does not.
        compile: compile the step, from augmentation to loss, with `torch.compile`.
        activation_checkpointing: keep only the blocks' inputs for the backward pass and compute the rest again: less
            memory, about a third more arithmetic.
        films_on_device: keep the training films in the device's memory: `auto` on a GPU where they take at most half of
            what is free.
        workers: processes that read batches ahead; 0 reads in the training process.
        validation_every: epochs between validations; the last epoch is always validated.
        checkpoint_steps: steps between resume points within an epoch; 0 keeps them at epoch ends only.
        evaluation_batch_size: films per batch in validation.

    Raises:
        ConfigError: a value is impossible.
    """

    seed: int = 0
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    compile: bool = False
    activation_checkpointing: bool = False
    films_on_device: Literal["auto", "always", "never"] = "auto"
    workers: int = 0
    validation_every: int = 1
    checkpoint_steps: int = 0
    evaluation_batch_size: int = 64

    def __post_init__(self) -> None:
        least = {
            "devices": 1,
            "nodes": 1,
            "workers": 0,
            "validation_every": 1,
            "checkpoint_steps": 0,
            "evaluation_batch_size": 1,
        }
        rules = {name: (getattr(self, name) >= value, f"{value} or more") for name, value in least.items()}
        _require("run", self, rules | {"seed": (0 <= self.seed < 2**32, "0 to 4294967295")})


def _require(section: str, config: object, rules: dict[str, tuple[bool, str]]) -> None:
    """Report all impossible values of a section at once; a rule is whether the value is possible, and what is."""
    problems = [
        f"{name} is {getattr(config, name)}, expected {expected}"
        for name, (possible, expected) in rules.items()
        if not possible
    ]
    if problems:
        raise ConfigError(f"{section}: {'; '.join(problems)}")
