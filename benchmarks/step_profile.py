"""Where each millisecond of a training step goes, and the least that it could take on this machine.

    python benchmarks/step_profile.py [--model clarity_s16_224] [--batch 16] [--threads 2] [--rounds 5]

The step is cut where the backbone's tokens go into the heads and where the heads' outputs go into the losses: there the
pieces are handed leaf tensors, and gradients are carried over the cuts by hand. So forward and backward of every loss
family, of the heads and of the backbone are timed on their own, and the parameters' gradients are those of the
undivided step: their largest difference, relative to the largest gradient, is recorded. Shares are of the undivided
step of the training recipe, timed in the same rounds; what the pieces' sum exceeds it by is the price of cutting.
Dropout (with stochastic depth) is the difference to the same step without. The row "of which" is timed alone and is
part of the anatomy losses.

A piece's floor is the longer of: its multiply-adds, counted, over the machine's rate in a square matrix product of the
same precision; the bytes of its parameters, inputs, outputs and gradients, each moved once, over the rate of a copy.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from clarity_cxr.data.augmentation import AugmentationConfig, augment_by_state, film_states
from clarity_cxr.data.phantom import PhantomConfig, write_release
from clarity_cxr.data.prepare import prepare
from clarity_cxr.data.priors import unpack_priors
from clarity_cxr.data.store import FilmStore
from clarity_cxr.findings import PRIOR_OF_FINDING
from clarity_cxr.losses import (
    anatomy_losses,
    background_activation_suppression_loss,
    euclidean_distance_transform,
    orthogonal_class_token_loss,
    region_similarity_weights,
    resample_regions,
)
from clarity_cxr.losses.anatomy import LOSS_SIZE
from clarity_cxr.models import Clarity, create_model
from clarity_cxr.planning.rates import copy_rate, matmul_rate
from clarity_cxr.training.batches import TrainingFilms
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig
from clarity_cxr.training.objective import classification_loss, combined_loss
from clarity_cxr.training.recipe import ClarityRecipe
from record import record

NO_DROPOUT = dict.fromkeys(("pool_dropout", "mlp_dropout", "attention_dropout", "drop_path"), 0.0)
OF_WHICH = "of which priors and distance transform"
OPTIMIZER_BYTES = 28
"""AdamW reads weight, gradient and two moments, and writes all but the gradient: seven float32."""


def main() -> None:
    """Measure and write `runs/benchmarks/step_profile.json`."""
    options = arguments()
    torch.set_num_threads(options.threads)
    rows, differences = [], {}
    with tempfile.TemporaryDirectory() as folder:
        store = phantom_store(Path(folder), create_model(options.model).config.image_size, options.batch)
        for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            for precision in ("float32", "bfloat16"):
                step = CutStep(options.model, store, options.batch, torch.device(device), precision)
                differences[f"{device}, {precision}"] = f"{gradient_difference(step):.1e}"
                rows += profile(step, options.rounds)
    record("step_profile", rows, **vars(options), gradient_differences=differences)


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clarity_s16_224")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def phantom_store(folder: Path, size: int, batch: int) -> FilmStore:
    """Films with priors, enough for a batch."""
    write_release(folder / "release", PhantomConfig(films=3 * batch, size=size, seed=0), processes=1)
    return prepare(folder / "release", folder / "store", size=size, processes=1)


class Watch:
    """Seconds of named pieces of work, the device's included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = self._now()
        yield
        self.seconds[name] += self._now() - begin

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class CutStep:
    """A training step of the recipe, undivided and in pieces, on the same films and weights."""

    def __init__(
        self, name: str, store: FilmStore, batch: int, device: torch.device, precision: str, **options: float
    ) -> None:
        self.name, self.store, self.device, self.precision = name, store, device, precision
        torch.manual_seed(0)
        self.model: Clarity = create_model(name, **options).train().to(device)
        self.loss, self.augmentation = LossConfig(), AugmentationConfig()
        optimization = OptimizationConfig(learning_rate=1e-5)
        self.recipe = ClarityRecipe(
            self.model, store, self.augmentation, self.loss, optimization, 1_000_000, RunConfig()
        ).to(device)
        self.optimizer = self.recipe.configure_optimizers()["optimizer"]
        self.films = TrainingFilms(store)
        self.index = (0, store.rows("train")[:batch])

    def batch(self) -> dict[str, Any]:
        """Rows of the store, where the model is."""
        read = self.films[self.index]
        return {name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in read.items()}

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def whole(self) -> None:
        """The undivided step, up to the gradients."""
        batch = self.batch()
        with self.autocast():
            loss = self.recipe.training_step(batch, 0)["loss"]
        loss.backward()

    def update(self) -> None:
        """The rest of either step."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def pieces(self, watch: Watch) -> None:
        """The step in pieces, up to the gradients."""
        with watch("read rows"):
            read = self.films[self.index]
        with watch("to the device"):
            batch = {name: value.to(self.device) for name, value in read.items() if isinstance(value, Tensor)}
        with watch("augmentation"):
            states = film_states(batch["keys"], self.index[0], 0)
            packed = unpack_priors(batch["priors"])
            films, priors = augment_by_state(batch["films"], states, self.augmentation, packed, LOSS_SIZE)
        with watch("forward: backbone"), self.autocast():
            features = self.model.backbone(self.model.preprocess(films), return_tokens=True)
        tokens = [features.class_tokens, features.patch_tokens, features.block_class_tokens]
        token_leaves = [leaf(tensor) for tensor in tokens]
        with watch("forward: pooling and SegmentCAM"), self.autocast():
            outputs = heads(self.model, token_leaves[0], token_leaves[1])
        leaves = [leaf(tensor) for tensor in outputs]
        self.losses(leaves, token_leaves[2], batch["labels"], priors, watch)
        with watch(OF_WHICH):
            regions = resample_regions(priors)
            region_similarity_weights(regions, region_of_finding=PRIOR_OF_FINDING)
            euclidean_distance_transform(regions)
        with watch("backward: pooling and SegmentCAM"):
            torch.autograd.backward(outputs, [tensor.grad for tensor in leaves])
        with watch("backward: backbone"):
            torch.autograd.backward(tokens, [tensor.grad for tensor in token_leaves])

    def losses(self, leaves: list[Tensor], tokens: Tensor, labels: Tensor, priors: Tensor | None, watch: Watch) -> None:
        """Forward and backward of every family, up to the leaves' gradients."""
        class_logits, heatmap, patch, foreground, background = leaves
        logits = {"CLS_C": class_logits, "CLS_P": patch, "CLS_f": foreground}
        with watch("loss: classification (CLS)"):
            named = {k: classification_loss(value, labels, labels, self.loss) for k, value in logits.items()}
            combined_loss(named, self.loss).backward()
        with watch("loss: suppression (BAS)"):
            loss = background_activation_suppression_loss(background, patch, labels)
            combined_loss({"BAS": loss}, self.loss).backward()
        with watch("loss: anatomy (PRX, CNF, AC)"):
            anatomy = anatomy_losses(heatmap, priors)
            named = {"PRX": anatomy.proximity, "CNF": anatomy.confinement, "AC": anatomy.area}
            combined_loss(named, self.loss).backward()
        with watch("loss: class tokens (OCT)"):
            combined_loss({"OCT": orthogonal_class_token_loss(tokens, labels)}, self.loss).backward()


def heads(model: Clarity, class_tokens: Tensor, patch_tokens: Tensor) -> list[Tensor]:
    """Class logits, then heatmap and patch, foreground and background logits of SegmentCAM."""
    if model.config.class_token_norm:
        class_tokens = model.backbone.norm(class_tokens)
    assert model.segment_cam is not None
    return [model.pooling(class_tokens), *model.segment_cam(patch_tokens)]


def leaf(tensor: Tensor) -> Tensor:
    """The same values, where a gradient stops and is kept."""
    return tensor.detach().requires_grad_()


def gradient_difference(step: CutStep) -> float:
    """Largest difference of the parameters' gradients between both steps, over the largest gradient."""
    found = []
    for compute in (step.whole, lambda: step.pieces(Watch(step.device))):
        torch.manual_seed(1)
        compute()
        found.append({name: p.grad for name, p in step.model.named_parameters() if p.grad is not None})
        step.optimizer.zero_grad(set_to_none=True)
    whole, pieces = found
    assert whole.keys() == pieces.keys()
    largest = max(gradient.abs().max() for gradient in whole.values())
    return float(max((whole[name] - pieces[name]).abs().max() for name in whole) / largest)


def profile(step: CutStep, rounds: int) -> list[dict[str, Any]]:
    """One row per piece; medians over the rounds."""
    free = CutStep(step.name, step.store, len(step.index[1]), step.device, step.precision, **NO_DROPOUT)
    watches = [one_round(step, free) for _ in range(rounds + 1)][1:]
    median = {name: statistics.median(watch.seconds[name] for watch in watches) for name in watches[0].seconds}
    whole, without = median.pop("undivided step"), median.pop("without dropout")
    floors = piece_floors(step)
    rows = [row(name, seconds, whole, floors.get(name)) for name, seconds in median.items()]
    total = sum(seconds for name, seconds in median.items() if name != OF_WHICH)
    floor = tuple(map(sum, zip(*floors.values(), strict=True)))
    rows += [
        row("sum of the pieces", total, whole, None),
        row("undivided step", whole, whole, floor),
        row("dropout, by difference", whole - without, whole, None),
    ]
    labels = {"device": step.device.type, "precision": step.precision}
    return [line | labels for line in rows]


def one_round(step: CutStep, free: CutStep) -> Watch:
    """The pieces, the undivided step, and that without dropout, once."""
    watch = Watch(step.device)
    step.pieces(watch)
    with watch("optimizer"):
        step.update()
    for name, one in (("undivided step", step), ("without dropout", free)):
        with watch(name):
            one.whole()
            one.update()
    return watch


def row(name: str, seconds: float, whole: float, floor: tuple[float, ...] | None) -> dict[str, Any]:
    """A piece with its share of the step, and its floor if it has one: seconds, multiply-adds, bytes."""
    line: dict[str, Any] = {
        "what": name,
        "ms": round(1000 * seconds, 3),
        "share %": round(100 * seconds / whole, 2),
    }
    if floor is not None:
        least, multiply_adds, moved = floor
        line |= {"floor ms": round(1000 * least, 3), "times floor": round(seconds / least, 2)}
        line |= {"G multiply-adds": round(multiply_adds / 1e9, 2), "MB": round(moved / 1e6, 2)}
    return line


def piece_floors(step: CutStep) -> dict[str, tuple[float, float, float]]:
    """Seconds, multiply-adds and bytes that each piece takes at least; see the head of this file."""
    dtype = torch.float32 if step.precision == "float32" else torch.bfloat16
    large = step.device.type == "cuda"
    arithmetic = matmul_rate(step.device, dtype, 8192 if large else 2048, 1.0)
    copying = copy_rate(step.device, 1 << (30 if large else 28), 1.0)
    counted = counted_multiply_adds(step)
    return {
        name: (max(counted.get(name, 0.0) / arithmetic, moved / copying), counted.get(name, 0.0), float(moved))
        for name, moved in piece_bytes(step).items()
    }


def counted_multiply_adds(step: CutStep) -> dict[str, float]:
    """Of the pieces that hold matrix products and convolutions, counted on tensors without memory."""
    films, config = len(step.index[1]), step.model.config
    model = Clarity(config).train().to("meta")
    images = torch.zeros(films, 3, config.image_size, config.image_size, device="meta")
    counts: dict[str, float] = {}

    @contextmanager
    def counting(name: str) -> Iterator[None]:
        with FlopCounterMode(display=False) as counter:
            yield
        counts[name] = counter.get_total_flops() / 2

    with counting("forward: backbone"):
        features = model.backbone(images, return_tokens=True)
    tokens = [features.class_tokens, features.patch_tokens]
    leaves = [leaf(tensor) for tensor in tokens]
    with counting("forward: pooling and SegmentCAM"):
        outputs = heads(model, *leaves)
    with counting("backward: pooling and SegmentCAM"):
        torch.autograd.backward(outputs, [torch.ones_like(tensor) for tensor in outputs])
    with counting("backward: backbone"):
        torch.autograd.backward(tokens, [torch.ones_like(tensor) for tensor in tokens])
    return counts


def piece_bytes(step: CutStep) -> dict[str, int]:
    """Of parameters, inputs, outputs and gradients of each piece, each once; activations in float32."""
    films, config = len(step.index[1]), step.model.config
    findings, grid = config.classes, config.grid
    pixels = films * config.image_size**2
    packed = films * 4 * 128 * 16
    tokens = 4 * films * config.width * (findings + grid**2)
    block_tokens = 4 * films * config.width * findings * config.token_blocks
    logits, heatmap = 4 * films * findings, 4 * films * findings * grid**2
    weights = {name: 4 * sum(p.numel() for p in part.parameters()) for name, part in step.model.named_children()}
    heads = weights["pooling"] + weights.get("segment_cam", 0)
    outputs = 4 * logits + heatmap
    return {
        "read rows": 2 * (pixels + packed),
        "augmentation": pixels + packed + 4 * pixels + 8 * packed,
        "forward: backbone": weights["backbone"] + 4 * pixels + tokens + block_tokens,
        "forward: pooling and SegmentCAM": heads + tokens + outputs,
        "loss: classification (CLS)": 2 * 3 * logits,
        "loss: suppression (BAS)": 2 * 2 * logits,
        "loss: anatomy (PRX, CNF, AC)": 2 * heatmap + 8 * packed,
        "loss: class tokens (OCT)": 2 * block_tokens,
        "backward: pooling and SegmentCAM": 2 * heads + 2 * tokens + outputs,
        "backward: backbone": 2 * weights["backbone"] + 2 * tokens + block_tokens,
        "optimizer": OPTIMIZER_BYTES // 4 * sum(weights.values()),
    }


if __name__ == "__main__":
    main()
