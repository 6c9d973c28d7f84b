"""A TLS front for a server without TLS (the embedded Redis is built without): terminates TLS and passes bytes on."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from certificates import Certificates

from chronotope.local.ports import LOOPBACK


@contextmanager
def tls_front(certificates: Certificates, backend_port: int) -> Iterator[int]:
    """The port of a TLS listener whose plain traffic goes to ``backend_port``, while the block runs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.key)
    listener = socket.create_server((LOOPBACK, 0))
    threading.Thread(target=_accept, args=(listener, context, backend_port), daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def _accept(listener: socket.socket, context: ssl.SSLContext, backend_port: int) -> None:
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(raw, context, backend_port), daemon=True).start()


def _serve(raw: socket.socket, context: ssl.SSLContext, backend_port: int) -> None:
    try:
        client = context.wrap_socket(raw, server_side=True)
        backend = socket.create_connection((LOOPBACK, backend_port))
    except OSError:
        raw.close()
        return
    threading.Thread(target=_pump, args=(backend, client), daemon=True).start()
    _pump(client, backend)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            end.close()
