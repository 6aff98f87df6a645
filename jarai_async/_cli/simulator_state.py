"""The file of `jarai simulate --state`: the seed, the epoch of the clock, and every production.

JSON Lines. The first line is the header, and of several lines about a production the last one counts.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jarai_async._errors import ConfigurationError
from jarai_async.simulator import SimulatedProduction


class StateFile:
    """An open state file. Raises OSError, and ConfigurationError if it is another kind of file."""

    def __init__(self, path: str, *, seed: int, epoch: float | None) -> None:
        self._path = Path(path)
        self.seed = seed
        self.epoch = epoch
        self.productions: dict[str, Mapping[str, Any]] = {}
        if self._path.exists():
            self._read()
        self._replace()
        self._file = self._path.open("a", encoding="utf-8")

    def save(self, production: SimulatedProduction) -> None:
        """Write a production that was created or changed."""
        self.productions[production.production_id] = saved = production.to_dict()
        self._file.write(json.dumps(saved) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self) -> None:
        header, *lines = self._path.read_text(encoding="utf-8").splitlines() or [""]
        try:
            values = json.loads(header)
            self.seed, self.epoch = values["jarai_simulator_seed"], values["epoch"]
        except (ValueError, TypeError, KeyError):  # JSON of another kind, or none
            raise ConfigurationError(f"{self._path} is not a state of `jarai simulate`") from None
        for line in lines:
            try:
                saved = json.loads(line)
            except ValueError:  # the process ended while it wrote the line
                continue
            self.productions[saved["production_id"]] = saved

    def _replace(self) -> None:
        """Write the file again, without what later lines have replaced and without a line that is cut off."""
        header = {"jarai_simulator_seed": self.seed, "epoch": self.epoch}
        lines = [json.dumps(values) for values in (header, *self.productions.values())]
        temporary = self._path.with_name(f"{self._path.name}.new")
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.replace(self._path)
