"""The OpenAI wire protocol as pure functions and state machines: no sockets, no event loop, no clock."""
