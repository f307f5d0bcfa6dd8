"""Evidence that a suspect model was trained on your answers."""
