"""How a pass over the data is made."""

from __future__ import annotations

import msgspec

from models.features.spec import FeatureSpec
from models.scoring.calibration import NEGATIVE_SAMPLING_RATE


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the pass is made.

    Attributes:
        spec: what the features are made of.
        negative_sampling_rate: share of the genuine transactions that is learned.
        freeze_at: event time, seconds, from which a frozen copy of every model runs beside it.
        explain_from: event time, seconds, from which contributions are gathered.
    """

    spec: FeatureSpec
    negative_sampling_rate: float = NEGATIVE_SAMPLING_RATE
    freeze_at: float | None = None
    explain_from: float = 0.0
