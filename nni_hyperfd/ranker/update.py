"""The continual update after a task (HyperFD §3.3, Algorithm 1), in steps, as the customer's half runs elsewhere.

A step is: the customer computes φ and φ̃ with the newest G and sends them; :meth:`ContinualUpdate.begin_step` answers
with the gradient for them; the customer back-propagates it into θ_G; :meth:`ContinualUpdate.finish_step` adds that to
the platform's own gradient and moves θ. No image of the customer is needed here, nor is there a way to hand one in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from nni_hyperfd.errors import RankerError
from nni_hyperfd.metafeature.extractor import WIDTH, image_inputs, meta_feature
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.ranker.batch import list_loss, require_finite
from nni_hyperfd.ranker.losses import triplet_loss
from nni_hyperfd.ranker.offline import OfflineData, RankedList
from nni_hyperfd.ranker.ranker import Ranker
from nni_hyperfd.ranker.seeding import seeded
from nni_hyperfd.ranker.settings import RankerSettings
from nni_hyperfd.ranker.synaptic import SynapticIntelligence
from nni_hyperfd.ranker.transform import ExactTransform, IterativeTransform

_EXTRACTOR = "extractor."

ListKind = Literal["offline", "past", "current"]
Draw = tuple[ListKind, int]
"""Kind of a list and its position among the lists of that kind."""


@dataclass(frozen=True)
class CurrentTask:
    """The task that is being finished.

    Args:
        key: Its name among all tasks.
        trials: The configurations that were tried, with their AP@50. Failed trials are not in it.
    """

    key: str
    trials: RankedList


@dataclass(frozen=True)
class PastTask:
    """What remains of a finished task.

    Args:
        key: Its name among all tasks.
        trials: Its configurations with their AP@50.
        phi: ``[64]`` φ_t, from the extractor of its own version.
        offline_phi: ``[S, 64]`` G^(t)(D_offline), the same version's view of the offline data sets.
        transform: ``[64, 64]`` Z^(t) where the paper's iteration was left; None for the identity. The exact one needs no start.
        features: Of the task's images. A customer's images never reach the platform; only the benchmark has them, for the
            oracle of Table 3, which extracts φ_t again with the newest G instead of transforming it.
    """

    key: str
    trials: RankedList
    phi: Tensor
    offline_phi: Tensor
    transform: Tensor | None = None
    features: ImageFeatures | None = None


@dataclass(frozen=True)
class UpdatedState:
    """What an update leaves behind; every tensor can be written down as it is.

    Args:
        parameters: Of the ranker (parameters and buffers), by name.
        importance: Ω of Synaptic Intelligence, by parameter name.
        offline_phi: ``[S, 64]`` G^(t)(D_offline) with the new extractor.
        transforms: Z ``[64, 64]`` by task key, from each task's own version to the new one, where the paper's iteration will go
            on from. Empty for the exact one, which follows from ``offline_phi`` of both versions whenever it is wanted:
            to refresh it for tasks that no batch draws would make an update slower with every task there ever was.
        phi: ``[64]`` φ_t of the task just finished, from the new extractor.
    """

    parameters: dict[str, Tensor]
    importance: dict[str, Tensor]
    offline_phi: Tensor
    transforms: dict[str, Tensor]
    phi: Tensor


def draw_batches(
    available: Mapping[ListKind, int], settings: RankerSettings, generator: torch.Generator
) -> list[list[Draw]]:
    """For each batch its lists: the kind by ``settings.ratio`` among the kinds that have any, then uniformly.

    Args:
        available: Number of lists of each kind.
        settings: Number of batches, lists in each, and their ratio.
        generator: Of the draws.
    """
    kinds: list[ListKind] = ["offline", "past", "current"]
    ratio = (0.0, 0.0, 1.0) if settings.mode == "latest_only" else settings.ratio
    weights = torch.tensor([share if available[kind] else 0.0 for kind, share in zip(kinds, ratio)])
    batches = []
    for _ in range(0 if settings.mode == "freeze_all" else settings.batches):
        drawn = torch.multinomial(weights, settings.lists, replacement=True, generator=generator)
        batches.append(
            [
                (kinds[k], int(torch.randint(available[kinds[k]], (), generator=generator)))
                for k in drawn.tolist()
            ]
        )
    return batches


class ContinualUpdate:
    r"""One update of the ranker in N_iters steps (eq. 11).

    .. math:: L = L_\mathrm{rank} + \lambda_\mathrm{sim} L_\mathrm{sim} + \lambda_\mathrm{reg} L_\mathrm{reg}

    Lists of all spaces take part, so that every encoder follows the one extractor; φ of a past task is
    Z^(t) φ_t without a gradient into G (eq. 5). Z is exact whenever it is used, and computed only then.

    Args:
        ranker: At the newest version, with an encoder for every space that occurs; changed in place. Keep the stored
            version until :meth:`finish` has returned.
        offline: The server's data and experience.
        past: Finished tasks. Only those that the batches draw are asked for, so that the sequence may fetch each one from
            where it is kept; the paper's iteration, which moves all matrices in every batch, asks for all.
        importance: Ω so far, by parameter name; empty before the first task.
        current: The task to learn from.
        settings: See there.
        seed: Of the draws, the image samples and dropout; with the same calls, the result depends on nothing else.
        held_out: Offline data sets whose experience is not learnt from, so that the result can be judged by it.

    Raises:
        RankerError: A past task whose cached meta-features do not fit the offline data sets.
        SpaceError: A list of a space without an encoder.
    """

    def __init__(
        self,
        ranker: Ranker,
        offline: OfflineData,
        past: Sequence[PastTask],
        importance: Mapping[str, Tensor],
        current: CurrentTask,
        settings: RankerSettings,
        seed: int,
        held_out: Collection[int] = (),
    ) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._offline_lists = [
            (space, dataset, rows)
            for space, experience in offline.experience.items()
            for dataset, rows in experience.lists
            if dataset not in held_out
        ]
        available: dict[ListKind, int] = {
            "offline": len(self._offline_lists),
            "past": len(past),
            "current": 1,
        }
        self._batches = draw_batches(available, settings, self._generator)
        iterative = settings.transform == "iterative" and len(past) > 0
        drawn = {i for batch in self._batches for kind, i in batch if kind == "past"}
        self._past = {i: past[i] for i in (range(len(past)) if iterative else sorted(drawn))}
        tasks = tuple(self._past.values())
        _require_fitting(tasks, len(offline))
        spaces = {task.trials.space for task in tasks}
        for space in {current.trials.space} | spaces | set(offline.experience):
            ranker.encoder(space)
        self._ranker, self._offline = ranker, offline
        self._current, self._settings = current, settings
        self._pool = image_inputs(offline.features, ranker.extractor.variant)
        self._reference = offline.reference(settings.images)
        self._offline_phi: Tensor | None = None
        self._factors: dict[int, ExactTransform] = {}
        self._iterative = _iteration(tasks, settings.learning_rate) if iterative else None
        self._parameters = dict(ranker.named_parameters())
        self._synaptic = SynapticIntelligence(self._parameters, importance, settings.synaptic_damping)
        self._trained = [
            name
            for name in self._parameters
            if settings.mode != "freeze_extractor" or not name.startswith(_EXTRACTOR)
        ]
        self._optimizer = torch.optim.Adam(
            [self._parameters[name] for name in self._trained], lr=settings.learning_rate
        )
        self._step = 0
        self._gradients: dict[str, Tensor] | None = None
        self._left: UpdatedState | None = None

    @property
    def steps_left(self) -> int:
        """Steps until :meth:`finish` may be called."""
        return len(self._batches) - self._step

    @property
    def wants_current(self) -> bool:
        """Whether the next step's batch holds the current task. If not, nothing need be asked of the customer."""
        return self.steps_left > 0 and any(kind == "current" for kind, _ in self._batches[self._step])

    def pass_over_others(self) -> None:
        """Does the steps up to the next one that :attr:`wants_current`, or to the end.

        Raises:
            TrainingError: The loss of one of them is not finite.
        """
        while self.steps_left and not self.wants_current:
            self.begin_step()
            self.finish_step({})

    def begin_step(
        self, phi: Tensor | None = None, phi_tilde: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Loss and gradients of the next batch.

        Args:
            phi: ``[64]`` current task's φ with the newest G; may be left out when :attr:`wants_current` is False.
            phi_tilde: ``[64]`` the same from another sample of images.

        Returns:
            ∂L/∂φ and ∂L/∂φ̃, ``[64]`` each; None when the batch does not hold the current task.

        Raises:
            RankerError: Called out of turn, or a meta-feature that is missing, misshaped or not finite.
            TrainingError: The loss is not finite.
        """
        if self._gradients is not None or not self.steps_left:
            raise RankerError("An update step was begun out of turn; finish the step before, or the update.")
        given: list[Tensor] = []
        if self.wants_current:
            given = [_checked_phi(phi).requires_grad_(), _checked_phi(phi_tilde).requires_grad_()]
        with seeded(int(torch.randint(2**31, (), generator=self._generator))):
            self._training_mode()
            loss = self._unregularized_loss(self._batches[self._step], given)
        require_finite(loss, "update")
        found = torch.autograd.grad(
            loss, [self._parameters[name] for name in self._trained] + given, materialize_grads=True
        )
        self._gradients = dict(zip(self._trained, found))
        if not given:
            return None, None
        of_phi, of_phi_tilde = found[len(self._trained) :]
        return of_phi, of_phi_tilde

    def finish_step(self, extractor_gradient: Mapping[str, Tensor]) -> None:
        """Adds the customer's part to the gradient and moves θ.

        Args:
            extractor_gradient: ∂L/∂θ_G through φ and φ̃, by the extractor's parameter names; a missing one counts as zero.

        Raises:
            RankerError: Called out of turn, or a gradient that is unknown, misshaped or not finite.
        """
        if self._gradients is None:
            raise RankerError("An update step was finished that was not begun.")
        gradients = {name: torch.zeros_like(parameter) for name, parameter in self._parameters.items()}
        gradients |= self._gradients
        for short, gradient in extractor_gradient.items():
            name = _EXTRACTOR + short
            if name not in gradients or gradients[name].shape != gradient.shape:
                raise RankerError(
                    f"A gradient for {short} of shape {list(gradient.shape)} does not fit the extractor."
                )
            if not torch.isfinite(gradient).all():
                raise RankerError(f"The gradient for {short} is not finite.")
            if name in self._gradients:
                gradients[name] = gradients[name] + gradient
        before = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        penalty = self._synaptic.penalty_gradient()
        for name in self._trained:
            self._parameters[name].grad = gradients[name] + self._settings.synaptic_weight * penalty[name]
        self._optimizer.step()
        self._synaptic.accumulate(before, gradients)
        self._gradients = None
        self._step += 1
        if self._settings.mode != "freeze_extractor":
            self._offline_phi = None

    def finish(self, phi: Tensor) -> UpdatedState:
        """The new state, once all steps are done; asked again, the same one, as nothing moves any more.

        Args:
            phi: ``[64]`` the current task's meta-feature with the final G; what will remain of its data.

        Raises:
            RankerError: Steps are left, or φ is misshaped or not finite.
        """
        if self.steps_left or self._gradients is not None:
            raise RankerError(f"The update has {self.steps_left} steps left; finish them first.")
        phi = _checked_phi(phi)
        if self._left is None:
            self._ranker.eval()
            self._left = UpdatedState(
                self._ranker.parameters_state(),
                self._synaptic.consolidate(),
                self._newest_offline_phi().clone(),
                self._transforms_left(),
                phi,
            )
        return replace(self._left, phi=phi)

    def _training_mode(self) -> None:
        """Dropout on; batch statistics as they are, since the few graphs of one batch would only blur them.

        G has neither; without a gradient, its attention has a faster path in evaluation mode.
        """
        self._ranker.eval()
        for module in self._ranker.modules():
            if isinstance(module, nn.Dropout):
                module.train()

    def _unregularized_loss(self, batch: list[Draw], given: list[Tensor]) -> Tensor:
        """L_rank + λ_sim L_sim of one batch; ``given`` is φ and φ̃ of the current task, if it is in the batch."""
        distinct = list(dict.fromkeys(self._dataset(draw) for draw in batch))
        at_hand, at_hand_tilde = self._meta_features_at_hand(distinct, given)
        phi = at_hand | self._past_meta_features([i for kind, i in distinct if kind == "past"])
        loss = list_loss(
            self._ranker,
            torch.stack([phi[self._dataset(draw)] for draw in batch]),
            [self._list(draw) for draw in batch],
            self._settings,
            self._generator,
        )
        if self._settings.triplet_weight and at_hand:
            # Only a data set whose images are at hand has a second sample, so only such a one can be v.
            different = torch.tensor([[v != u for u in distinct] for v in at_hand])
            triplet = triplet_loss(
                torch.stack(list(at_hand.values())),
                torch.stack([at_hand_tilde[v] for v in at_hand]),
                torch.stack([phi[u] for u in distinct]),
                different,
                self._settings.triplet_margin,
            )
            loss = loss + self._settings.triplet_weight * triplet
        return loss

    def _dataset(self, draw: Draw) -> Draw:
        """The data set behind a list: two spaces may each have a list of one offline data set."""
        kind, i = draw
        return (kind, self._offline_lists[i][1]) if kind == "offline" else draw

    def _list(self, draw: Draw) -> RankedList:
        kind, i = draw
        if kind == "offline":
            space, _, rows = self._offline_lists[i]
            return self._offline.experience[space].ranked(space, rows)
        return self._past[i].trials if kind == "past" else self._current.trials

    def _meta_features_at_hand(
        self, distinct: list[Draw], given: list[Tensor]
    ) -> tuple[dict[Draw, Tensor], dict[Draw, Tensor]]:
        """φ and φ̃ of the batch's offline data sets and of the current task."""
        datasets = [i for kind, i in distinct if kind == "offline"]
        phi: dict[Draw, Tensor] = {}
        phi_tilde: dict[Draw, Tensor] = {}
        if datasets:
            indices = torch.stack(
                [self._offline.sample(d, self._settings.images, self._generator) for d in datasets * 2]
            )
            found = self._ranker.extractor(self._pool[indices], self._offline.statistics[datasets * 2])
            for dataset, one, other in zip(datasets, *found.chunk(2)):
                phi["offline", dataset], phi_tilde["offline", dataset] = one, other
        if given:
            phi["current", 0], phi_tilde["current", 0] = given
        return phi, phi_tilde

    @torch.no_grad()
    def _past_meta_features(self, tasks: list[int]) -> dict[Draw, Tensor]:
        """φ of past tasks in the newest feature space (eq. 5)."""
        if self._iterative is not None:
            # Algorithm 1 moves all matrices in every batch, whether the batch needs them or not.
            transforms = self._iterative.refresh(
                self._newest_offline_phi(), self._settings.transform_iterations
            )
        phi: dict[Draw, Tensor] = {}
        for i in tasks:
            task = self._past[i]
            if task.features is not None:
                phi["past", i] = meta_feature(
                    self._ranker.extractor, task.features, self._generator, self._settings.images
                )
            elif self._settings.transform == "none":
                phi["past", i] = task.phi
            elif self._iterative is not None:
                phi["past", i] = transforms[i] @ task.phi
            else:
                if i not in self._factors:
                    self._factors[i] = ExactTransform.factor(task.offline_phi)
                phi["past", i] = self._factors[i].refresh(self._newest_offline_phi()) @ task.phi
        return phi

    @torch.no_grad()
    def _newest_offline_phi(self) -> Tensor:
        """G(D_offline) ``[S, 64]`` with the current parameters, computed once between two steps."""
        if self._offline_phi is None:
            self._offline_phi = self._ranker.extractor.forward_indexed(
                self._pool, self._reference, self._offline.statistics
            )
        return self._offline_phi

    def _transforms_left(self) -> dict[str, Tensor]:
        """Z to the final G where the paper's iteration has been at it; identity for the task just finished."""
        if self._settings.transform != "iterative":
            return {}
        left = {self._current.key: _identity()}
        if self._iterative is not None:
            moved = self._iterative.refresh(self._newest_offline_phi(), self._settings.transform_iterations)
            left |= {task.key: z for task, z in zip(self._past.values(), moved)}
        return left


def _require_fitting(tasks: Sequence[PastTask], offline: int) -> None:
    for task in tasks:
        if task.phi.shape != (WIDTH,) or task.offline_phi.shape != (offline, WIDTH):
            raise RankerError(
                f"Past task {task.key} has φ {list(task.phi.shape)} and offline meta-features "
                f"{list(task.offline_phi.shape)}; expected [{WIDTH}] and [{offline}, {WIDTH}]. "
                "Were the offline data sets exchanged?"
            )


def _iteration(tasks: Sequence[PastTask], rate: float) -> IterativeTransform:
    """The paper's iteration, from where it was left."""
    start = [_identity() if task.transform is None else task.transform for task in tasks]
    return IterativeTransform(torch.stack([task.offline_phi for task in tasks]), torch.stack(start), rate)


def _identity() -> Tensor:
    return torch.eye(WIDTH)


def _checked_phi(phi: Tensor | None) -> Tensor:
    if phi is None:
        raise RankerError("This update step needs the current task's meta-feature, but none was given.")
    if phi.shape != (WIDTH,) or not torch.isfinite(phi).all():
        raise RankerError(
            f"A meta-feature of shape {list(phi.shape)} was given; expected {WIDTH} finite numbers."
        )
    return phi.detach().clone().float()
