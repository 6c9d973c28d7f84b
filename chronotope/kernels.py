"""``python -m chronotope.kernels`` compiles every kernel, so that workers and servers start in seconds: once per installation."""

from model_server import compiled as server
from streams import rehearsal as worker


def main() -> None:
    """Compile what numba's cache does not hold yet."""
    server.warm_up()
    worker.warm_up()


if __name__ == "__main__":
    main()
