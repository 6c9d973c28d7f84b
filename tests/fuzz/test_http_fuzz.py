"""Whatever is asked over HTTP, the server answers as its OpenAPI document says, and never with an error of its own."""

from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving_harness import RunningServer, probing, settings_of, until

from chronotope.kafka.topics import apply_topics
from chronotope.local.stack import LocalStack
from schemas.events import Item
from schemas.topics import CATALOG

pytestmark = pytest.mark.integration
EXAMPLES = 400
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with LocalStack(tmp_path_factory.mktemp("stack")) as stack:
        apply_topics(stack.kafka)
        with probing(stack) as probe:
            for n in range(6):
                probe.send(CATALOG, f"i{n}", Item(item_id=f"i{n}", categories=["odd"], lat=n / 100, lon=0.0))
        with RunningServer(settings_of(stack, http_requests_per_s=100_000.0)) as running:
            until(lambda: len(running.server.items) == 6, "the catalogue is read")
            yield running


def test_no_request_makes_the_server_fail(serving: RunningServer) -> None:
    address = f"http://127.0.0.1:{serving.http.port}"
    document = schemathesis.openapi.from_url(f"{address}/openapi.json")
    answers: Counter[int] = Counter()

    for operation in (result.ok() for result in document.get_all_operations()):
        mixed = operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

        @settings(
            max_examples=EXAMPLES if operation.path.startswith("/recommendations") else 20,
            deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(mixed)
        def ask(case: schemathesis.Case) -> None:
            answer = case.call(base_url=address)
            answers[answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS)

        ask()
    assert answers[200] > EXAMPLES / 10 and answers[400] > EXAMPLES / 10, answers
    assert serving.get("/healthz")[0] == 200
