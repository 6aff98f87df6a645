from pathlib import Path

import pytest

from jarai_async.simulator import Simulator


@pytest.fixture
def environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set the variables that the examples read, and let them write into a temporary folder."""
    monkeypatch.setenv("JARAI_API_KEY", simulator.api_key)
    monkeypatch.setenv("JARAI_BASE_URL", simulator.base_url)
    monkeypatch.setenv("JARAI_ACCOUNT_ID", simulator.account_id)
    monkeypatch.setenv("JARAI_AVATAR_ID", simulator.avatar_id)
    monkeypatch.setenv("JARAI_LANGUAGE_ID", simulator.language_id)
    monkeypatch.setenv("JARAI_COUNTRY_ID", simulator.country_id)
    monkeypatch.chdir(tmp_path)
