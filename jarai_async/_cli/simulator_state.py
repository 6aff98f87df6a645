"""The file of `jarai simulate --state`: the seed, the clock, the ports, every production, and the webhooks.

JSON Lines. The first line is the header, and of several lines about the same thing the last one counts. Only
its owner can read the file: it has the secrets of the webhooks.

The file is replaced at each start, so the lock that gives it one simulator at a time is a file beside it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jarai_async._errors import ConfigurationError
from jarai_async._journal.file_lock import FileLock, JournalInUseError
from jarai_async.simulator import SimulatedProduction, SimulatedWebhook


class StateFile:
    """An open state file.

    Raises OSError, and ConfigurationError if another simulator has it open or it is another kind of file.
    """

    def __init__(self, path: str, *, seed: int, epoch: float | None, speed: float | None = None) -> None:
        self._path = Path(path)
        self.seed = seed
        self.epoch = epoch
        self.speed = speed
        self.port = 0
        self.control_port = 0
        self.productions: dict[str, Mapping[str, Any]] = {}
        self.webhooks: dict[str, Mapping[str, Any]] = {}
        self._lock = _lock(self._path)
        try:
            if self._path.exists():
                self._read()
            self._replace()
            self._file = self._path.open("a", encoding="utf-8")
        except BaseException:
            self._lock.close()
            raise

    def save(self, production: SimulatedProduction) -> None:
        """Write a production that was created or changed."""
        self._write(production.to_dict())

    def save_ports(self, port: int, control_port: int) -> None:
        """Write the ports at which the simulator and its control server listen."""
        self._write({"port": port, "control_port": control_port})

    def save_webhook(self, webhook: SimulatedWebhook) -> None:
        """Write a webhook that was created, changed or deleted."""
        self._write(webhook.to_dict())

    def _write(self, saved: Mapping[str, Any]) -> None:
        self._take(saved)
        self._file.write(json.dumps(saved) + "\n")
        self._file.flush()

    def _take(self, saved: Mapping[str, Any]) -> None:
        if "port" in saved:
            self.port, self.control_port = saved["port"], saved.get("control_port", 0)
        elif "production_id" in saved:
            self.productions[saved["production_id"]] = saved
        elif saved["deleted"]:
            self.webhooks.pop(saved["webhook_id"], None)
        else:
            self.webhooks[saved["webhook_id"]] = saved

    def close(self) -> None:
        """Close the file, and with that unlock it."""
        self._file.close()
        self._lock.close()

    def _read(self) -> None:
        header, *lines = self._path.read_text(encoding="utf-8").splitlines() or [""]
        try:
            values = json.loads(header)
            self.seed, self.epoch = values["jarai_simulator_seed"], values["epoch"]
            self.speed = values.get("speed")
        except (ValueError, TypeError, KeyError):  # JSON of another kind, or none
            raise ConfigurationError(f"{self._path} is not a state of `jarai simulate`") from None
        for line in lines:
            try:
                saved = json.loads(line)
            except ValueError:  # the process ended while it wrote the line
                continue
            self._take(saved)

    def _replace(self) -> None:
        """Write the file again, without what later lines have replaced and without a line that is cut off."""
        header = {"jarai_simulator_seed": self.seed, "epoch": self.epoch, "speed": self.speed}
        ports = [{"port": self.port, "control_port": self.control_port}] if self.port else []
        saved = (header, *ports, *self.productions.values(), *self.webhooks.values())
        lines = [json.dumps(values) for values in saved]
        temporary = self._path.with_name(f"{self._path.name}.new")
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600, exist_ok=False)
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.replace(self._path)


def _lock(path: Path) -> FileLock:
    target = path.resolve()  # one lock, whatever link leads to the file
    try:
        return FileLock(target.with_name(f"{target.name}.lock"), create=True)
    except JournalInUseError:
        raise ConfigurationError(
            f"{path} is in use by another `jarai simulate`: stop that one, or use another file"
        ) from None
