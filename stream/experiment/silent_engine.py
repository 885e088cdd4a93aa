"""The pass over topics: assumed labels teach as at the learner; what was known in the end is measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.metrics.drift import DAY
from stream.experiment.delayed_labels import Correction
from stream.experiment.engine import Engine
from stream.learning import ASSUMED_GENUINE, is_sampled
from stream.messages import Label


class SilentEngine(Engine):
    """An engine for labels of which some are assumed.

    A learner meets the assumed labels of the sampled share alone: only that is learned and enters the
    profiles. That the other payments count as genuine is known here for measuring, and for nothing else.
    """

    def _learn(self, label: Label) -> None:
        name = label.transaction_id
        if label.source != ASSUMED_GENUINE or is_sampled(name, self.settings.negative_sampling_rate):
            super()._learn(label)
            return
        waiting = self._waiting.pop(name, None)
        if waiting is not None:
            self.fraud[waiting.row] = False
            self.known_at[waiting.row] = label.known_at.timestamp()

    def correct(self, corrected: Mapping[int, Correction]) -> None:
        """Measure by what was known in the end, up to where it is known.

        Of the last days only frauds are known, for what is assumed genuine has not counted yet. To measure
        those would flatter every model, so the days are left out.

        Args:
            corrected: by row.
        """
        for row, correction in corrected.items():
            if row < len(self.fraud):
                self.fraud[row] = correction.is_fraud
                self.known_at[row] = correction.known_at
        known_until = self.known_until
        for row, time in enumerate(self.times):
            if time >= known_until:
                self.fraud[row] = -1

    @property
    def known_until(self) -> float:
        """The first day, seconds, on which there is a payment of which nothing is known; infinite without."""
        unknown = np.frombuffer(self.fraud, dtype=np.int8) < 0
        times = np.frombuffer(self.times)[unknown]
        return float(times.min() // DAY * DAY) if times.size else float("inf")
