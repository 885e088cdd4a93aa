"""The setting model_classes: which classes of one's own a pickle may hold, and which never."""

from __future__ import annotations

import pytest

from stream.config.settings import SettingsError
from stream.config.settings import load as load_settings


def test_only_classes_may_be_named_beside_the_known_ones() -> None:
    settings = load_settings({"model_classes": "decimal.Decimal, mine.Model"}, {}).settings
    assert settings.custom_classes() == (("decimal", "Decimal"), ("mine", "Model"))
    for text in ("Decimal", "os.sys tem", "os..path"):
        with pytest.raises(SettingsError, match="is no class: write module"):
            load_settings({"model_classes": text}, {})


@pytest.mark.parametrize(
    "text",
    ["os.system", "subprocess.Popen", "pickle.Unpickler", "builtins.eval", "models.snapshots.pickles.X",
     "models.scoring.snapshot.X", "stream.config.settings.Settings", "importlib.abc.Loader"],
)  # fmt: skip
def test_no_class_that_can_run_or_open_things_may_be_named(text: str) -> None:
    with pytest.raises(SettingsError, match="can do more than a model may"):
        load_settings({"model_classes": text}, {})
