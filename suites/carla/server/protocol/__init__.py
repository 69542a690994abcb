"""How the server talks to clients: sockets, messages, calls and streams. It knows nothing of the world."""
