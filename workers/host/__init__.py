"""The engine host: the child process that alone owns torch, the device and the batch."""
