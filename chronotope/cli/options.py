"""Options that several commands share, and the settings made of them."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chronotope.cli.errors import WRONG_INPUT, CommandFailed

if TYPE_CHECKING:
    from chronotope.local.stack import BrokerKind
    from schemas.settings import KafkaSettings

BootstrapOption = Annotated[
    str | None,
    typer.Option("--bootstrap", metavar="HOST:PORT", help="Brokers to use instead of CHRONOTOPE_KAFKA_BOOTSTRAP."),
]
BrokerOption = Annotated[
    str, typer.Option("--broker", help="embedded, or kafka for a local Apache Kafka (after make kafka).")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
PseudonymsFlag = Annotated[
    bool, typer.Option("--pseudonyms", help="Send HMAC(CHRONOTOPE_PSEUDONYM_KEY, user id) instead of user ids.")
]
RunDirOption = Annotated[
    Path | None, typer.Option("--run-dir", help="Folder for logs and local data. Default: var/runs/NAME.")
]


def kafka_settings(bootstrap: str | None) -> "KafkaSettings":
    """The Kafka settings of the environment, with ``--bootstrap`` if it was given."""
    from schemas.settings import KafkaSettings

    return KafkaSettings() if bootstrap is None else KafkaSettings(bootstrap=bootstrap)


def pseudonym_key() -> bytes:
    """The key of the environment. Raises CommandFailed if there is none."""
    from schemas.settings import PseudonymSettings

    key = PseudonymSettings().key
    if key is None:
        raise CommandFailed("set CHRONOTOPE_PSEUDONYM_KEY to a secret of your own", WRONG_INPUT)
    return key.get_secret_value().encode()


def parse_rate(text: str) -> float:
    """``max`` or a positive number of events per second. Raises typer.BadParameter."""
    if text == "max":
        return math.inf
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not (rate > 0 and math.isfinite(rate)):
        raise typer.BadParameter(f"{text!r} is neither 'max' nor a positive number of events per second")
    return rate


def broker_kind(text: str) -> "BrokerKind":
    """``embedded`` or ``kafka``. Raises typer.BadParameter."""
    match text:
        case "embedded":
            return "embedded"
        case "kafka":
            return "kafka"
    raise typer.BadParameter(f"broker {text!r}: 'embedded' or 'kafka'")
