"""The load that benches send, in the shapes of real clients."""
