"""The first days of the data: what served, how well, and how many alerts it raised.

Until a model has seen enough of both classes the anomaly score serves in its stead. How smooth the
change-over is shows in the days around it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.metrics.ranking import average_precision, roc_auc
from stream.experiment.measures.measure import DAY, Scores, Table, day_name
from stream.experiment.measures.results import FirstDay

FIRST_DAYS = 28
ANOMALY = "anomaly"


def first_days(
    table: Table, scores: Scores, anomaly: NDArray[np.bool_], start: float, *, name: str, budget: float
) -> list[FirstDay]:
    """The first 28 days that have a transaction, one by one; no transaction is left out.

    Args:
        table: of all transactions.
        scores: of one model, as served.
        anomaly: whether the anomaly score served, for each transaction.
        start: seconds, midnight of the first day.
        name: of the model.
        budget: share of transactions that may raise an alert, > 0.
    """
    day = ((table.time - start) // DAY).astype(np.int64)
    result = []
    for number in range(FIRST_DAYS):
        rows = np.flatnonzero(day == number)
        if not rows.size:
            continue
        is_fraud, score = table.is_fraud[rows], scores.score[rows]
        by_anomaly = 1.0 if name == ANOMALY else float(anomaly[rows].mean())
        alerts = int(np.count_nonzero(scores.alerted[rows]))
        result.append(
            FirstDay(
                day=day_name(start + number * DAY),
                served=ANOMALY if by_anomaly > 0.5 else name,  # noqa: PLR2004 - most of the day
                anomaly_share=by_anomaly,
                transactions=int(rows.size),
                frauds=int(np.count_nonzero(is_fraud)),
                average_precision=average_precision(is_fraud, score),
                roc_auc=roc_auc(is_fraud, score),
                alerts=alerts,
                alert_share=alerts / rows.size,
                of_budget=alerts / rows.size / budget,
            )
        )
    return result
