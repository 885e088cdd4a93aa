"""The fault suite stands on whole installations, as the integration tests do."""

from __future__ import annotations

from tests.integration.conftest import install

__all__ = ["install"]
