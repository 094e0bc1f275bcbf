"""Seeing the work: everything here hangs on `shared.hooks` and is imported only where it is switched on."""
