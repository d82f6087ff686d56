"""What Prometheus reads: figures with few labels, and no names."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from node.commands import StatusCommand
from node.web.metrics import Metrics
from tests.node.doors import STATUS, ask, opened


def families(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Read the exposition format: by family, the value of each set of labels."""
    return {
        family.name: {
            tuple(sample.labels.values()): sample.value
            for sample in family.samples
            if not sample.name.endswith(("_bucket", "_created", "_sum"))
        }
        for family in text_string_to_metric_families(text)
    }


async def test_the_figures_of_the_status_are_there():
    async with opened() as (address, _):
        answer = await ask(address, "GET", "/metrics", b"", Authorization=None)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    found = families(answer.body.decode())
    assert found["caravan_contacts"] == {(): STATUS.contacts}
    assert found["caravan_store_artifacts"] == {(): STATUS.artifacts}
    assert found["caravan_sent_bytes"] == {(): STATUS.transfer.seeder.bytes_sent}


def test_answers_are_timed_by_source():
    metrics = Metrics()
    metrics.observe("store", 0.002)
    metrics.observe("store", 3.0)
    metrics.observe("origin", 0.3)
    found = families(metrics.render(STATUS).decode())
    counted = found["caravan_gateway_answer_seconds"]
    assert counted == {("store",): 2, ("origin",): 1}


def test_nothing_of_the_owner_is_in_it():
    text = Metrics().render(STATUS).decode()
    for secret in (STATUS.node_id, STATUS.address, STATUS.web):
        assert secret not in text
    assert StatusCommand.__name__ not in text
