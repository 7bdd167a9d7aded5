"""One live trial. `session` is the reference loop; it imports no fast path, and every fast path is tested against it."""
