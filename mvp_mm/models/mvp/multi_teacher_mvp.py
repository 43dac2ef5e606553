"""MVP with several teachers: Eq. 9 of each, and their weighted mean."""

from typing import Any

import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.nn import functional as F

from .mvp import MVP


@MODELS.register_module()
class MultiTeacherMVP(MVP):
    """:class:`MVP` with a head for each of several teachers, which all see the same crop.

    The loss is ``sum_t w_t L_t / sum_t w_t`` over the teachers t of a step, L_t being Eq. 9 between the
    predictions of the teacher's own head and its standardised targets. With one teacher it is MVP.

    Args:
        args, kwargs: As of :class:`MVP`, with :class:`MVPNecks` and :class:`TargetGenerators`.
    """

    several = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.neck.speaks = self.target_generator.speaks

    def speech(self) -> dict[str, Any] | None:
        """See :meth:`.MVP.speech`: the student speaks through the head of one of its teachers."""
        found = super().speech()
        if found is not None:
            found['neck'] = dict(found['neck'], speaks=self.neck.speaks)
        return found

    def loss(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the training loss, and each teacher's cosines to log.

        Arguments and errors are those of :meth:`.MVP.loss`.

        Returns:
            ``loss`` and, for each teacher of this step, its cosines by names such as ``clip_cosine_masked``.
        """
        targets = self.extract_targets(inputs)
        predictions: Any = self.predict_tokens(inputs, mask)
        assert mask is not None
        weights = self.target_generator.shares(targets)
        # What is left out in this step keeps a gradient, of zeros: DDP waits for one from every parameter.
        loss: Any = sum(0.0 * tokens.sum() for name, tokens in predictions.items() if name not in targets)
        found: dict[str, Tensor] = {}
        for name, target in targets.items():
            compared = self.compared(_last(predictions[name], target), target, mask)
            loss = loss + weights[name] * compared.pop('loss')
            found |= {f'{name}_{key}': value for key, value in compared.items()}
        return dict(found, loss=loss)

    def extract_targets(self, inputs: Tensor) -> Any:
        """Eq. 7: the standardised tokens of each teacher of this step, ``(B, 1+M, D)`` by name."""
        targets = self.target_generator(inputs)
        return self.neck.standardised(targets, self.target_generator.extra_tokens)

    def predict(self, inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return predictions and targets of all teachers in one space, for evaluators.

        Unit vectors times ``sqrt(w_t / sum_t w_t)`` lie side by side, so that the cosine of a prediction and
        its target is the weighted mean of the teachers' cosines.
        """
        targets, predictions = self.extract_targets(inputs), self.predict_tokens(inputs, mask)
        weights, joined = self.target_generator.shares(targets), []
        longest = max(target.shape[1] for target in targets.values())
        for tokens in (predictions, targets):
            units = [
                F.normalize(_last(tokens[name], target).float(), dim=-1) * weights[name] ** 0.5
                for name, target in targets.items()
            ]
            # a teacher without CLS has no part in it
            joined.append(torch.cat([F.pad(unit, (0, 0, longest - unit.shape[1], 0)) for unit in units], -1))
        return joined[0], joined[1]


def _last(predictions: Tensor, target: Tensor) -> Tensor:
    """Return the predictions that a teacher has targets for: all, or those of patches."""
    return predictions[:, -target.shape[1] :]
