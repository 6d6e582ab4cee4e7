"""The test suite; `uv run pytest` runs it whole."""
