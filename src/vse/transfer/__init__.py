"""Moving files between storage elements: the queue, the mover, and the proof that a file is readable."""
