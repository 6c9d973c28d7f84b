"""``chronotope doctor``: what is wrong, by name."""

from typing import Annotated

import typer

from chronotope.cli.options import BootstrapOption, JsonFlag


def doctor(
    sample: Annotated[int, typer.Option(help="Latest events per partition to look at.", min=0)] = 50_000,
    bootstrap: BootstrapOption = None,
    json: JsonFlag = False,
) -> int:
    """Check versions, settings, files, broker, topics, producers, lag, state, Redis and registry; exit code 1 on a problem.

    Example: chronotope doctor --bootstrap 127.0.0.1:9092
    """
    from chronotope.cli.output import answers, print_json, remarks
    from chronotope.diagnosis import examine

    with remarks().status("examining"):
        findings = list(examine(bootstrap, sample))
    if json:
        print_json(findings)
    else:
        console = answers()
        for finding in findings:
            console.print(f"{finding.verdict:8} {finding.check:12} {finding.detail}", markup=False)
    return 1 if any(finding.verdict == "problem" for finding in findings) else 0
