"""What an agent does, and says, that cannot know what the deployment wants."""

import asyncio
import json
from pathlib import Path

import pytest

from lab.rig.process import until
from ovs_metadata.agent.agent import Agent
from ovs_metadata.agent.config.live import LiveDeployment
from ovs_metadata.agent.config.schema import PREFIX
from ovs_metadata.agent.last_errors import LastErrors
from ovs_metadata.agent.network import cleanup
from ovs_metadata.agent.systemd import Systemd
from ovs_metadata.host import config
from ovs_metadata.store import open_store
from ovs_metadata.store.documents import replace
from ovs_metadata.store.layout import config_template_path

DEADLINE = 20.0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"enabled": "yes"}, "enabled must be true or false"),
        ({"enabled": True, "nova_ca_file": "/nonexistent/ca.pem"}, "ca.pem: No such file"),
    ],
)
def test_a_configuration_of_no_use_at_the_start_is_the_reason_for_doing_nothing(
    values: dict[str, object], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[object] = []

    def has_traces(config: object) -> bool:
        touched.append(config)
        return False

    monkeypatch.setattr(cleanup, "has_traces", has_traces)
    store = open_store(f"directory:{tmp_path}/store")
    document = json.dumps({f"{PREFIX}.{name}": value for name, value in values.items()}).encode()
    replace(store, config_template_path("default"), lambda _: document)
    file = tmp_path / "agent.conf"
    file.write_text("[agent]\nhost = h\n")
    last_error = LastErrors()
    last_error.start()

    async def scenario() -> None:
        agent = Agent(config.load(file), Systemd("", {}))
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(agent._changed.set)

        live = LiveDeployment(store, "h", wake)
        following = asyncio.create_task(agent._follow(store, live))
        try:
            await until(lambda: any(reason in problem for problem in agent._health().problems))
            assert reason in last_error.latest
            assert agent._service is None
        finally:
            agent._end()
            await following
            await asyncio.to_thread(live.close)

    try:
        asyncio.run(scenario())
    finally:
        last_error.close()
        store.close()
    assert touched == []
