"""Everything that happens is an event in one ordered log; all else reads it with a cursor of its own."""
