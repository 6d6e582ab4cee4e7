"""The test suite; `uv run pytest` runs it whole."""

import pytest

pytest.register_assert_rewrite("tests.scenario")
