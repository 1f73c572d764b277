"""An echo with a thread for each connection: how the first Lumina was built.

Answers each text with `Echo: ` and the same text. Binds a free port of 127.0.0.1, prints the address and
serves until it is killed.
"""

import socket
import threading

# With 1,024 a burst of thousands of connections crawls: the kernel drops what does not fit, and the peer tries
# again after a second.
BACKLOG = 4096
MOST_BYTES = 1024


def converse(connection):
    with connection:
        while text := connection.recv(MOST_BYTES):
            connection.sendall(b"Echo: " + text)


listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
print("{}:{}".format(*listener.getsockname()), flush=True)
while True:
    peer, _ = listener.accept()
    threading.Thread(target=converse, args=(peer,), daemon=True).start()
