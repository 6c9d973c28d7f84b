"""``chronotope pseudonym``: the id under which a user is known here."""

from typing import Annotated

import typer

from chronotope.cli.options import JsonFlag, pseudonym_key


def pseudonym(
    user: Annotated[str, typer.Argument(help="The user's own id.", show_default=False)], json: JsonFlag = False
) -> None:
    """Print what ``--pseudonyms`` sends instead of this user id; the key is CHRONOTOPE_PSEUDONYM_KEY.

    Example: chronotope pseudonym alice
    """
    from chronotope.cli.output import answers, print_json
    from schemas.pseudonyms import pseudonym as of

    known_as = of(pseudonym_key(), user)
    if json:
        print_json({"pseudonym": known_as})
    else:
        answers().print(known_as, markup=False)
