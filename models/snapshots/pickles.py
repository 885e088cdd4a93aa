"""What is no data of ours, River's models and the user's own, as pickles: where the installation asks for it.

River models hold objects in Rust and functions of their own, so nothing but pickle stores them, and a pickle
is a program. It is run where the setting `model_pickle` says so, after its signature was verified, with
classes known by exact names, and first in a process that can do no harm (`models.snapshots.probe`).
"""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Collection
from typing import Any

from models.snapshots.refused import SnapshotRefused

Classes = Collection[tuple[str, str]]
"""Module and name of each class that a pickle may hold, exactly."""

PROTOCOL = 5
PROBE_SECONDS = 300  # of the clock, where a machine is busy; a probe has less of the processor
_PASSED = ("PATH", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT")  # what a probe sees of the environment: no secret

ALLOWED: tuple[tuple[str, str], ...] = (
    ("builtins", "float"),
    ("builtins", "int"),
    ("builtins", "tuple"),
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("collections", "deque"),
    ("functools", "partial"),  # calls what is on this list, and can be given nothing else
    ("models.scoring.river_adapter", "Filled"),
    ("models.scoring.river_adapter", "Squashed"),
    ("random", "Random"),
    ("river._river_rust.drift", "AdaptiveWindowing"),
    ("river._river_rust.vectordict", "VectorDict"),
    ("river.anomaly.hst", "HalfSpaceTrees"),
    ("river.compose.pipeline", "Pipeline"),
    ("river.drift.adwin", "ADWIN"),
    ("river.forest.adaptive_random_forest", "ARFClassifier"),
    ("river.forest.adaptive_random_forest", "BaseTreeClassifier"),
    ("river.linear_model.log_reg", "LogisticRegression"),
    ("river.metrics.accuracy", "Accuracy"),
    ("river.metrics.confusion", "ConfusionMatrix"),
    ("river.optim.ada_grad", "AdaGrad"),
    ("river.optim.adam", "Adam"),
    ("river.optim.initializers", "Zeros"),
    ("river.optim.losses", "Log"),
    ("river.optim.schedulers", "Constant"),
    ("river.optim.sgd", "SGD"),
    ("river.preprocessing.scale", "StandardScaler"),
    ("river.proba.gaussian", "Gaussian"),
    ("river.stats.mean", "Mean"),
    ("river.stats.var", "Var"),
    ("river.tree.hoeffding_tree_classifier", "HoeffdingTreeClassifier"),
    ("river.tree.nodes.arf_htc_nodes", "RandomLeafNaiveBayesAdaptive"),
    ("river.tree.nodes.branch", "NumericBinaryBranch"),
    ("river.tree.nodes.htc_nodes", "LeafNaiveBayesAdaptive"),
    ("river.tree.padded", "PaddedBranch"),
    ("river.tree.padded", "PaddedLeaf"),
    ("river.tree.splitter.gaussian_splitter", "GaussianSplitter"),
)
"""What River's models and the adapters around them are made of."""

_PLAIN = frozenset({"array", "collections", "datetime", "decimal", "fractions", "random", "uuid"})
_OURS = frozenset({"infra", "producers", "stream"})
_OPENERS = ("models.scoring.snapshot", "models.snapshots")


def has_power(module: str) -> bool:
    """Whether classes of a module can start, open or load things: no setting lets a pickle have those.

    >>> has_power("subprocess"), has_power("models.snapshots.pickles"), has_power("decimal")
    (True, True, False)
    """
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names:
        return module not in _PLAIN
    return root in _OURS or module.startswith(_OPENERS)


def class_of(module: str, name: str, classes: Classes) -> Any:
    """The class of that exact name.

    Raises:
        SnapshotRefused: a pickle may not hold it.
    """
    if (module, name) in ALLOWED or ((module, name) in classes and not has_power(module)):
        __import__(module)
        found = getattr(sys.modules[module], name, None)  # a name with dots is no attribute
        if isinstance(found, type):
            return found
    raise SnapshotRefused(
        f"The model holds {module}.{name}, which is not on the list of classes that may be "
        "loaded; if it is a class of a model of your own, name it in the setting model_classes."
    )


class _ExactUnpickler(pickle.Unpickler):
    """Builds classes known by name, and nothing else."""

    def __init__(self, payload: bytes, classes: Classes) -> None:
        super().__init__(io.BytesIO(payload))
        self._classes = classes

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The class of that exact name."""
        return class_of(module_name, global_name, self._classes)


def dumps(model: object, classes: Classes) -> bytes:
    """A model as a pickle that `loads` builds; it was built once.

    Raises:
        SnapshotRefused: it holds another class, or cannot be stored.
    """
    try:
        payload = pickle.dumps(model, protocol=PROTOCOL)
    except Exception as error:  # an object may raise anything while it is pickled
        raise SnapshotRefused(
            f"The model cannot be stored ({type(error).__name__}: {error}); a lambda or an open file is no "
            "part of a model."
        ) from error
    loads(payload, classes)
    return payload


def loads(payload: bytes, classes: Classes) -> Any:
    """What a pickle builds, in this process: only of bytes made here, or that were probed.

    Raises:
        SnapshotRefused: it holds another class, or is damaged.
    """
    try:
        return _ExactUnpickler(payload, classes).load()
    except SnapshotRefused:
        raise
    except Exception as error:  # a pickle can fail with anything, and none of it may reach a worker
        raise SnapshotRefused(
            f"The model cannot be built here ({type(error).__name__}: {error}); "
            "it was made by other code: publish it again from this version."
        ) from error


def probe(payload: bytes, classes: Classes) -> None:
    """Build it in a process of its own, with little memory, time and no secrets, that ends with it.

    Raises:
        SnapshotRefused: it could not be built there.
    """
    program = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from models.snapshots.probe import main; sys.exit(main(json.loads(sys.argv[2])))"
    )
    command = [sys.executable, "-P", "-c", program, json.dumps(sys.path), json.dumps(sorted(classes))]
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    try:
        done = subprocess.run(
            command, input=payload, env=environment, capture_output=True, check=False, timeout=PROBE_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SnapshotRefused(
            f"The model could not be tried first ({type(error).__name__}: {error})."
        ) from error
    if done.returncode or done.stdout != b"built":
        said = done.stdout.decode(errors="replace").strip()
        raise SnapshotRefused(
            said
            or f"The model ended the process that tried it first (code {done.returncode}): it is no model."
        )
