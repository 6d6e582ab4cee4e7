"""What is said while the database is out of reach: that it went, and that it is back."""

import logging


class Outage:
    """Says once that the database was lost, however often it is tried, and once that it is back."""

    def __init__(self, logger: logging.Logger, name: str) -> None:
        self._logger = logger
        self._name = name
        self._begun = False

    def goes_on(self, error: Exception) -> None:
        """It was tried, and failed."""
        if not self._begun:
            said = " ".join(str(error).split())
            self._logger.warning("%s waits: %s (%s)", self._name, type(error).__name__, said)
        self._begun = True

    def ends(self) -> None:
        """It went well."""
        if self._begun:
            self._logger.warning("%s goes on", self._name)
        self._begun = False
