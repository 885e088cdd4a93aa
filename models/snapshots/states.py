"""A model as data: our own models have a schema, and to open one is to read numbers, whoever wrote them.

What a class keeps is what its pickle would keep (its state, by name), so a field that comes or goes without
this schema is refused when a model is stored, not found missing when it is opened.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from itertools import pairwise
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from models.features.spec import MAX_BINS
from models.scoring.anomaly import Unlearning, UnsupervisedModel
from models.scoring.binning import Binner, Cells
from models.scoring.calibration import CELLS, Calibration
from models.scoring.ensemble import Ensemble
from models.scoring.fraud_model import MOST_NAMES, FraudModel
from models.scoring.river_adapter import USUAL, RiverAdapter
from models.scoring.sparse_linear import CELL_BLOCK
from models.snapshots import pickles
from models.snapshots.pickles import Classes
from models.snapshots.refused import SnapshotRefused

MOST_FEATURES = 2 * MOST_NAMES  # of one example, and of what is known of features
MOST_INPUTS = 20_000_000  # weights of a model

Count = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(max_length=512)]
Edges = Annotated[list[float], Meta(max_length=CELL_BLOCK)]
Counts = Annotated[list[float], Meta(min_length=1, max_length=CELL_BLOCK)]
Histogram = Annotated[list[float], Meta(min_length=CELLS, max_length=CELLS)]
Features = Annotated[dict[Name, float], Meta(max_length=MOST_FEATURES)]
Rows = Annotated[list[Features], Meta(max_length=1024)]
Weights = Annotated[dict[int, float], Meta(max_length=MOST_INPUTS)]
Bins = Annotated[int, Meta(ge=1, le=MAX_BINS)]
Cross = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=3)]
Crosses = Annotated[tuple[Cross, ...], Meta(max_length=64)]
Word = Annotated[int, Meta(ge=0, lt=2**32)]
RandomState = tuple[int, Annotated[list[Word], Meta(min_length=625, max_length=625)], float | None]


class _State(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind"):
    """What an object keeps, under the names it has there."""


class CalibrationState(_State):
    """Of a `Calibration`."""

    genuine_weight: float
    slope: float
    shift: float
    _frauds: Histogram
    _genuine: Histogram
    _weight: float
    _learned: Count


class CellsState(_State):
    """Of the cells of one feature."""

    edges: Edges
    frauds: Counts
    genuine: Counts
    fraud_sums: Counts
    genuine_sums: Counts


class BinnerState(_State):
    """Of a `Binner`."""

    bins: Bins
    coarse: Bins
    crossed: list[Name]
    learned: Count
    edges: dict[Name, Edges]
    coarse_edges: dict[Name, Edges]
    _cells: Annotated[dict[Name, CellsState], Meta(max_length=MOST_FEATURES)]
    _growths: Count
    _next_growth: Count
    _rows: tuple[Rows, Rows]
    _seen: Annotated[list[Count], Meta(min_length=2, max_length=2)]
    _random: RandomState
    _counter: None = None


class FraudModelState(_State, tag="fraud-model"):
    """Of a `FraudModel`."""

    negative_sampling_rate: Annotated[float, Meta(gt=0.0, le=1.0)]
    bins: Bins
    coarse: Bins
    crosses: Crosses | None
    learning_rate: float
    seed: int
    learned: Count
    _crosses: Crosses
    binner: BinnerState
    calibration: CalibrationState
    _tables: Annotated[dict[Name, tuple[Edges, Edges | None]], Meta(max_length=MOST_FEATURES)]
    _linear: tuple[Weights, Weights]
    _norms: Features
    _starts: Features


class UnsupervisedState(_State, tag="unsupervised"):
    """Of a model that keeps nothing."""

    takes_labels: bool


class RiverState(_State, tag="river"):
    """Of a `RiverAdapter`; River's own model is a pickle."""

    inner: bytes
    negative_sampling_rate: Annotated[float, Meta(gt=0.0, le=1.0)]
    calibration: CalibrationState
    learned: Count
    frauds: Count
    _genuine: Rows
    _usual: Features
    _is_detector: bool


class EnsembleState(_State, tag="ensemble"):
    """Of an `Ensemble`."""

    members: Annotated[dict[Name, ModelState], Meta(min_length=1, max_length=64)]
    negative_sampling_rate: Annotated[float, Meta(gt=0.0, le=1.0)]
    weights: Annotated[dict[Name, float], Meta(max_length=64)]
    calibration: CalibrationState
    learned: Count
    frauds: Count


class PickledState(_State, tag="pickled"):
    """A whole model of the user's own."""

    pickle: bytes


ModelState = FraudModelState | UnsupervisedState | RiverState | EnsembleState | PickledState

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ModelState).decode


def stored(model: object, classes: Classes | None) -> bytes:
    """A model as bytes, msgpack; the same model gives the same bytes.

    Args:
        model: of ours, or where `classes` allows it any.
        classes: what a pickle in it may hold beside what River's models do; None: nothing is pickled.

    Raises:
        SnapshotRefused: it would not be opened again.
    """
    return _encode(_state_of(model, classes))


def opened(raw: bytes | memoryview, classes: Classes | None, *, probed: bool) -> Any:
    """The model that `stored` gave.

    Args:
        raw: signed by somebody trusted.
        classes: as `stored` takes them.
        probed: a pickle in it is built in a process of its own first.

    Raises:
        SnapshotRefused: it is none, holds what may not be built here, or numbers that are none.
    """
    try:
        return _model_of(_decode(raw), classes, probed=probed)
    except SnapshotRefused:
        raise
    except Exception as error:  # whatever numbers can do to arithmetic, none of it may reach a worker
        raise SnapshotRefused(
            f"The model cannot be built here ({type(error).__name__}: {error}); "
            "it was made by other code: publish it again from this version."
        ) from error


# ---- to data


def _state_of(model: Any, classes: Classes | None) -> ModelState:
    kind = type(model)
    if kind is FraudModel:
        state = model.__getstate__()
        binner = state["binner"].__getstate__()
        cells = {name: CellsState(**vars(each)) for name, each in binner["_cells"].items()}
        version, words, gauss = binner["_random"].getstate()
        binner |= {
            "crossed": sorted(binner["crossed"]),
            "_cells": cells,
            "_random": (version, list(words), gauss),
        }
        state |= {"binner": BinnerState(**binner), "calibration": _calibration(model)}
        return FraudModelState(**state)
    if kind in (UnsupervisedModel, Unlearning):
        return UnsupervisedState(takes_labels=kind is Unlearning)
    if kind is Ensemble:
        members = {name: _state_of(each, classes) for name, each in model.members.items()}
        return EnsembleState(**vars(model) | {"members": members, "calibration": _calibration(model)})
    if classes is None:
        raise SnapshotRefused(
            f"A model of the class {(model.inner if kind is RiverAdapter else model).__class__.__name__} is "
            "stored by pickle, which is a program: set model_pickle = true for learner and scorers if "
            "whoever holds the signing key may run programs on all of them."
        )
    if kind is RiverAdapter:
        changed = {
            "inner": pickles.dumps(model.inner, classes),
            "calibration": _calibration(model),
            "_genuine": list(vars(model)["_genuine"]),
        }
        return RiverState(**vars(model) | changed)
    return PickledState(pickles.dumps(model, classes))


def _calibration(model: Any) -> CalibrationState:
    return CalibrationState(**vars(model.calibration))


# ---- from data


def _model_of(state: ModelState, classes: Classes | None, *, probed: bool) -> Any:
    _check(state)
    if isinstance(state, FraudModelState):
        return _fraud_model(state)
    if isinstance(state, UnsupervisedState):
        return Unlearning() if state.takes_labels else UnsupervisedModel()
    fields = msgspec.structs.asdict(state)
    if isinstance(state, EnsembleState):
        if list(state.weights) != list(state.members):
            raise ValueError("weights of other members")
        members = {name: _model_of(each, classes, probed=probed) for name, each in state.members.items()}
        return _filled(Ensemble, fields | {"members": members, "calibration": _calibrated(state)})
    if isinstance(state, PickledState):
        return _unpickled(state.pickle, classes, probed=probed)
    changed = {
        "inner": _unpickled(state.inner, classes, probed=probed),
        "calibration": _calibrated(state),
        "_genuine": deque(fields["_genuine"], maxlen=USUAL),
    }
    return _filled(RiverAdapter, fields | changed)


def _unpickled(payload: bytes, classes: Classes | None, *, probed: bool) -> Any:
    if classes is None:
        raise SnapshotRefused(
            "The model is a pickle, which is a program, and here only data are opened: set "
            "model_pickle = true if whoever holds the signing key may run programs on this machine."
        )
    if probed:
        pickles.probe(payload, classes)
    return pickles.loads(payload, classes)


def _fraud_model(state: FraudModelState) -> FraudModel:
    binner = msgspec.structs.asdict(state.binner)
    cells = {name: _filled(Cells, msgspec.structs.asdict(each)) for name, each in binner["_cells"].items()}
    rows = tuple(
        [{sys.intern(name): value for name, value in row.items()} for row in each] for each in binner["_rows"]
    )
    made = Binner(state.bins, state.coarse, frozenset(state.binner.crossed), state.seed)
    chance = vars(made)["_random"]
    version, words, gauss = binner["_random"]
    chance.setstate((version, tuple(words), gauss))
    changed = {"crossed": made.crossed, "_cells": cells, "_rows": rows, "_random": chance}
    vars(made).update(binner | changed)
    model = FraudModel.__new__(FraudModel)
    model.__setstate__(msgspec.structs.asdict(state) | {"binner": made, "calibration": _calibrated(state)})
    return model


def _calibrated(state: Any) -> Calibration:
    made: Calibration = _filled(Calibration, msgspec.structs.asdict(state.calibration))
    return made


def _filled(kind: type, fields: dict[str, Any]) -> Any:
    made: Any = object.__new__(kind)
    vars(made).update(fields)
    return made


# ---- numbers that are none


def _check(state: _State) -> None:
    """See that numbers are finite and edges rise: arithmetic relies on it."""
    for name in state.__struct_fields__:
        value = getattr(state, name)
        if not _is_finite(value):
            raise SnapshotRefused(
                f"The model is broken: not every number of its {name.strip('_')} is finite."
            )
    if isinstance(state, FraudModelState):
        edges = [*state.binner.edges.values(), *state.binner.coarse_edges.values()]
        for fine, coarse in _tables_of(state):
            edges += [fine, coarse]
        if any(len(each) >= MAX_BINS for each in edges):
            raise SnapshotRefused("The model is broken: it has more bins than there is room for.")
        every_cell = msgspec.structs.asdict(state.binner)["_cells"].values()
        for cell in every_cell:
            sizes = {len(each) for each in (cell.frauds, cell.genuine, cell.fraud_sums, cell.genuine_sums)}
            if sizes != {len(cell.edges) + 1}:
                raise SnapshotRefused("The model is broken: counts and edges of its cells do not fit.")
        edges += [cell.edges for cell in every_cell]
        if any(low >= high for each in edges for low, high in pairwise(each)):
            raise SnapshotRefused("The model is broken: edges of its bins do not rise.")


def _tables_of(state: FraudModelState) -> list[tuple[list[float], list[float]]]:
    """Fine and coarse edges of each feature."""
    tables = msgspec.structs.asdict(state)["_tables"].values()
    return [(fine, coarse or []) for fine, coarse in tables]


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    if isinstance(value, _State):
        return all(_is_finite(getattr(value, name)) for name in value.__struct_fields__)
    return True
