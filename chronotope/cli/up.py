"""``chronotope up``: the whole local stack until Ctrl-C, for trying things against it."""

import time
from typing import Annotated

import typer

from chronotope.cli.options import BootstrapOption, BrokerOption, JsonFlag, RunDirOption, broker_kind

CHECK_EVERY_S = 0.5


def up(
    broker: BrokerOption = "embedded",
    bootstrap: BootstrapOption = None,
    workers: Annotated[int, typer.Option(help="Stream workers to run.", min=1)] = 1,
    port: Annotated[int, typer.Option(help="The broker's port; 0 takes a free one.", min=0, max=65535)] = 9092,
    redis_port: Annotated[int, typer.Option(help="Redis' port; 0 takes a free one.", min=0, max=65535)] = 6379,
    http_port: Annotated[int, typer.Option(help="The model server's; 0 takes a free one.", min=0, max=65535)] = 8080,
    run_dir: RunDirOption = None,
    json: JsonFlag = False,
) -> None:
    """Start a broker, Redis, workers and the model server, print where they are, and end them all at Ctrl-C.

    Example: chronotope up --broker kafka --port 9092
    """
    from chronotope.cli.output import answers, print_json, remarks
    from chronotope.kafka.topics import apply_topics
    from chronotope.local.services import LocalServices
    from chronotope.local.stack import LocalStack, new_run_dir

    folder = run_dir.resolve() if run_dir else new_run_dir("up")
    stack = LocalStack(folder, broker_kind(broker), bootstrap, broker_port=port or None, redis_port=redis_port or None)
    with remarks().status("starting the local stack") as status, stack:
        apply_topics(stack.kafka)
        status.update("starting the workers and the model server")
        with LocalServices(stack, workers, http_port or None) as services:
            services.await_ready()
            status.stop()
            addresses = {
                "bootstrap": stack.kafka.bootstrap,
                "redis": stack.redis.url.get_secret_value(),
                "recommendations": f"http://127.0.0.1:{services.server.port}/recommendations/USER",
                "worker_metrics": [f"http://127.0.0.1:{each.port}/metrics" for each in services.workers],
                "logs": str(folder),
            }
            if json:
                print_json(addresses)
            else:
                for name, address in addresses.items():
                    answers().print(f"{name:16} {address if isinstance(address, str) else ', '.join(address)}")
                remarks().print("Running until Ctrl-C.")
            while True:
                services.check_alive()
                time.sleep(CHECK_EVERY_S)
